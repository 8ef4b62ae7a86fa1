"""Triggers: ids, the guards of a deployment, data that is new, calendars, and how a trigger can end."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.domain.drift.decide import decide
from perennial.domain.drift.schedule import ScheduleError, last_due, next_due
from perennial.domain.drift.spec import RetrainSpec, ScheduleSpec
from perennial.domain.drift.trigger import data_digest, guard, job_name, trigger_id
from perennial.domain.drift.world import Champion
from perennial.domain.rollout.commands import COMMAND_ID
from perennial.domain.times import rfc3339
from tests.fakes.drift import Sim, baseline_of, column, digest, tallies

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
RULE = RetrainSpec("rain-train", cooldown=3_600, max_retrains=2, per_seconds=86_400)


def ago(**time: float) -> str:
    """A time before NOW."""
    return rfc3339(NOW - timedelta(**time))


def policy(name: str, *history: dict[str, Any], active: dict[str, Any] | None = None, **retrain: Any) -> dict[str, Any]:
    """A policy of the deployment with past triggers."""
    base = {"trainingJobRef": {"name": "t"}, "cooldownSeconds": 3_600, "budget": {"perSeconds": 86_400}}
    spec = {
        "deploymentRef": {"name": "rain"},
        "source": {"observations": {}},
        "window": {"seconds": 60},
        "action": "Retrain",
        "retrain": {**base, **retrain},
    }
    return {"metadata": {"name": name}, "spec": spec, "status": {"history": list(history), "activeTrigger": active}}


def ended(started: str, end: str, *, job: bool = True, gpu: int = 0) -> dict[str, Any]:
    """A trigger that ended."""
    made = {"trainingJob": "j"} if job else {}
    return {"id": "abc", "startedTime": started, "outcomeTime": end, "gpuSeconds": gpu, **made}


NINE = {"maxRetrains": 9}
LONG_AGO = ended(ago(hours=9), ago(hours=8))


@pytest.mark.parametrize(
    ("policies", "state"),
    [
        ([policy("a")], "Free"),
        ([policy("a"), policy("b", active={"id": "x"})], "InFlight"),
        ([policy("a", ended(ago(hours=2), ago(minutes=59)))], "CoolingDown"),
        ([policy("a", ended(ago(hours=2), ago(minutes=61)))], "Free"),
        ([policy("a"), policy("b", ended(ago(hours=2), ago(minutes=59)))], "CoolingDown"),
        ([policy("a"), policy("b", LONG_AGO, cooldownSeconds=30_000)], "CoolingDown"),
        ([policy("a", LONG_AGO, LONG_AGO)], "Exhausted"),
        ([policy("a", LONG_AGO), policy("b", LONG_AGO)], "Exhausted"),
        (
            [policy("a", LONG_AGO, budget={"maxRetrains": 9}), policy("b", LONG_AGO, budget={"maxRetrains": 9})],
            "Exhausted",
        ),
        ([policy("a", LONG_AGO, ended(ago(hours=30), ago(hours=29)))], "Free"),
        ([policy("a", LONG_AGO, ended(ago(hours=9), ago(hours=8), job=False))], "Free"),
        ([policy("a", ended(ago(hours=9), ago(hours=8), gpu=50), budget={"gpuSeconds": 50})], "Exhausted"),
        ([policy("a", ended(ago(hours=9), ago(hours=8), gpu=49), budget={"gpuSeconds": 50})], "Free"),
    ],
)
def test_guards_belong_to_the_deployment(policies: list[dict[str, Any]], state: str) -> None:
    assert guard(policies, RULE, NOW).state == state


def test_a_guard_says_when_it_opens() -> None:
    held = guard([policy("a", LONG_AGO, LONG_AGO)], RULE, NOW)
    assert held.until == NOW - timedelta(hours=9) + timedelta(days=1)
    assert "budget.maxRetrains 2" in held.message


def test_the_same_window_never_makes_two_ids() -> None:
    one = trigger_id("uid", "rev1", "2026-11-25T10:00:00Z")
    assert one == trigger_id("uid", "rev1", "2026-11-25T10:00:00Z")
    assert (
        len(
            {
                one,
                trigger_id("uid", "rev2", "2026-11-25T10:00:00Z"),
                trigger_id("other", "rev1", "2026-11-25T10:00:00Z"),
            }
        )
        == 3
    )
    assert job_name("a" * 30, one) == f"{'a' * 30}-{one}"
    assert len(job_name("a" * 30, one)) <= 40


@settings(deadline=None)
@given(st.permutations(["a", "b", "c"]))
def test_the_digest_of_several_datasets_depends_on_no_order(names: list[str]) -> None:
    digests = {name: digest(name) for name in names}
    assert data_digest(digests, names) == data_digest(digests, ["a", "b", "c"])


def test_the_digest_of_unknown_data_is_unknown() -> None:
    assert data_digest({"a": digest("a")}, ["a", "b"]) is None
    assert data_digest({"a": digest("a")}, ["a"]) == digest("a")
    assert data_digest({}, []) is None


@pytest.mark.parametrize(
    ("cron", "zone", "now", "last", "following"),
    [
        ("0 3 * * 0", "Etc/UTC", "2026-11-25T10:00:00", "2026-11-22T03:00:00", "2026-11-29T03:00:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-11-25T10:00:00", "2026-11-25T02:00:00", "2026-11-26T02:00:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-07-25T10:00:00", "2026-07-25T01:00:00", "2026-07-26T01:00:00"),
        ("0 3 * * *", "Etc/UTC", "2026-11-25T03:00:00", "2026-11-25T03:00:00", "2026-11-26T03:00:00"),
        # 02:30 does not exist on the day the clocks go forward: it runs once, right after
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T05:00:00", "2026-03-29T01:00:00", "2026-03-30T00:30:00"),
    ],
)
def test_calendars_know_time_zones(cron: str, zone: str, now: str, last: str, following: str) -> None:
    spec, moment = ScheduleSpec(cron, zone, "Retrain"), datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert rfc3339(last_due(spec, moment)) == f"{last}Z"
    assert rfc3339(next_due(spec, moment)) == f"{following}Z"


@pytest.mark.parametrize(
    ("cron", "zone", "words"),
    [
        ("61 3 * * *", "Etc/UTC", "schedule.cron"),
        ("0 3 * * *", "Europe/Bellevue", "schedule.timeZone"),
        ("0 3 30 2 *", "Etc/UTC", "schedule.cron"),
    ],
)
def test_a_calendar_that_cannot_be_followed_is_refused_in_words(cron: str, zone: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        next_due(ScheduleSpec(cron, zone, "Retrain"), NOW)


PERFORMANCE = {"dataset": {"uri": "s3://b/x/"}, "metric": "auc", "min": "0.8"}
WINDOW = 600
START = 1_700_000_400 // WINDOW * WINDOW


def sim(**changes: Any) -> Sim:
    """One policy that retrains at once on one drifted window."""
    retrain = {"trainingJobRef": {"name": "rain-train"}, "cooldownSeconds": WINDOW, "requireNewData": False}
    spec = {"rule": {"forWindows": 1}, "action": "Retrain", "retrain": retrain, **changes}
    champion = Champion("rev1", "rain-r1", START, baseline_of(1), "", {"train": digest("first")})
    return Sim({"p": spec}, seconds=WINDOW, start=START, champion=champion)


def close_window(place: Sim, number: int, shift: float = 0.0) -> None:
    """The window `number` closes with 600 rows whose feature a and prediction are shifted."""
    assert place.champion.baseline is not None
    start = START + number * WINDOW
    rows = tallies(place.champion.baseline, {"a": column(600, 9, shift), "b": column(600, 8)}, column(600, 7, shift))
    place.observe(start, rows, 600)
    place.now = start + WINDOW + 1.5
    place.settle()


def started() -> tuple[Sim, str]:
    """A trigger with its TrainingJob."""
    place = sim()
    close_window(place, 0, shift=1.0)
    (job,) = place.jobs
    return place, job


def last_outcome(place: Sim) -> str | None:
    """How the last trigger ended."""
    place.settle()
    found: str | None = place.status("p").get("lastTrigger", {}).get("outcome")
    return found


@pytest.mark.parametrize("reason", ["TrainingFailed", "GateFailed"])
def test_a_run_without_a_version_ends_the_trigger(reason: str) -> None:
    place, job = started()
    place.finish(job, failed=reason)
    assert last_outcome(place) == reason


def test_a_promoted_version_ends_the_trigger() -> None:
    place, job = started()
    place.finish(job, version="rain-r2")
    assert last_outcome(place) is None
    place.promote("rain-r2", "rev2", baseline_of(5))
    assert last_outcome(place) == "Promoted"


@pytest.mark.parametrize(("reason", "outcome"), [("CanaryFailed", "Rejected"), ("Aborted", "Aborted")])
def test_a_rejected_version_ends_the_trigger(reason: str, outcome: str) -> None:
    place, job = started()
    place.finish(job, version="rain-r2")
    place.deployment["status"]["rejected"] = [
        {"revision": "rev2", "version": "rain-r2", "reason": reason, "message": "m"}
    ]
    assert last_outcome(place) == outcome


def test_a_newer_version_that_became_stable_supersedes_the_trigger() -> None:
    place, job = started()
    place.finish(job, version="rain-r2")
    place.now += 60
    lineage = {"finishedTime": rfc3339(datetime.fromtimestamp(place.now, UTC))}
    place.versions["rain-r3"] = {"metadata": {"name": "rain-r3"}, "spec": {"lineage": lineage}}
    place.promote("rain-r3", "rev3", baseline_of(5))
    assert last_outcome(place) == "Superseded"


def test_a_version_that_nobody_rolls_out_expires_after_seven_days() -> None:
    place, job = started()
    place.finish(job, version="rain-r2")
    place.settle()
    place.now += 7 * 86_400 - 10
    assert last_outcome(place) is None
    place.now += 20
    assert last_outcome(place) == "Expired"


def test_a_training_job_that_somebody_deleted_ends_the_trigger_and_is_not_made_again() -> None:
    place, job = started()
    place.settle()
    del place.jobs[job]
    assert last_outcome(place) == "TrainingFailed"
    assert not place.jobs


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([0.0, 0.4, 1.0]), min_size=1, max_size=6), st.booleans())
def test_deciding_again_changes_nothing_and_no_id_comes_twice(shifts: list[float], fails: bool) -> None:
    place = sim()
    for number, shift in enumerate(shifts):
        close_window(place, number, shift)
        for job in [name for name, obj in place.jobs.items() if not obj["status"]]:
            if fails:
                place.finish(job, failed="TrainingFailed")
        place.settle()
        again = decide(place.world("p"), datetime.fromtimestamp(place.now, UTC))
        assert dict(again.decision.status) == place.status("p")
        assert not again.decision.actions
        assert not again.decision.events
        assert again.decision.requeue_after is not None, "no state without an exit"
    ids = [item["id"] for item in place.status("p").get("history", ())]
    assert len(set(ids)) == len(ids)


def test_a_forgotten_book_starts_no_second_job() -> None:
    place, _ = started()
    place.forget("p")
    place.now += WINDOW
    place.settle()
    assert len(place.jobs) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"action": "Propose"}, "ProposeNotAvailable"),
        ({"schedule": {"cron": "0 3 * * 0", "action": "Notify"}}, "ScheduleNotifyNotAvailable"),
        (
            {"source": {"performance": {"dataset": {"uri": "s3://b/x/"}, "metric": "auc", "min": "0.8"}}},
            "PerformanceNotAvailable",
        ),
        ({"schedule": {"cron": "99 * * * *"}}, "ScheduleInvalid"),
        ({"features": {"include": "Listed", "names": ["humidity"]}}, "FeatureNotFound"),
        ({"test": {"effect": "0.001"}}, "EffectNotTestable"),
    ],
)
def test_what_cannot_work_is_said_and_starts_nothing(changes: dict[str, Any], reason: str) -> None:
    place = sim(**changes)
    close_window(place, 0, shift=1.0)
    ready, stalled = place.condition("p", "Ready"), place.condition("p", "Stalled")
    assert (ready["status"], ready["reason"], stalled["status"]) == ("False", reason, "True")
    assert len(ready["message"].encode()) <= 1_000
    assert not place.jobs


def test_a_missing_template_is_waited_for() -> None:
    place = sim()
    place.template = None
    close_window(place, 0, shift=1.0)
    assert place.condition("p", "Ready")["reason"] == "TrainingJobNotFound"
    assert place.condition("p", "Reconciling")["status"] == "True"
    assert "activeTrigger" not in place.status("p")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ('{"verb": "promote", "revision": "x", "id": "1", "by": "ada"}', "CommandIgnored"),
        ('{"verb": "accept-data", "revision": "yesterday", "id": "1", "by": "ada"}', "CommandIgnored"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_once(command: str, reason: str) -> None:
    place = sim()
    close_window(place, 0)
    place.policies["p"]["metadata"]["annotations"]["perennial.dev/command"] = command
    place.settle()
    assert place.reasons("p").count(reason) == 1
    assert place.status("p")["commands"] == ["1"]


@pytest.mark.parametrize(
    "text",
    [
        '{"id": "a", "id": "b"}',
        "{nonsense",
        '["a"]',
        '{"verb": "accept-data"}',
        '{"id": "no id!"}',
        json.dumps({"id": "x" * 65}),
    ],
)
def test_garbage_in_the_command_annotation_is_said_once_and_never_makes_the_status_invalid(text: str) -> None:
    place = sim()
    place.policies["p"]["metadata"]["annotations"]["perennial.dev/command"] = text
    close_window(place, 0)
    close_window(place, 1)
    assert place.status("p")["state"] == "Ok"
    assert place.reasons("p").count("CommandIgnored") == 1
    assert all(COMMAND_ID.fullmatch(identity) for identity in place.status("p")["commands"])


def test_ten_jobs_are_kept() -> None:
    place = sim()
    close_window(place, 0)
    jobs = tuple(
        {"metadata": {"name": f"p-{i:02}", "uid": f"u{i}", "creationTimestamp": f"2026-11-{i + 1:02}T00:00:00Z"}}
        for i in range(12)
    )
    world = place.world("p")
    fields = {name: getattr(world, name) for name in world.__slots__}
    decision = decide(type(world)(**{**fields, "jobs": jobs}), datetime.fromtimestamp(place.now, UTC)).decision
    assert [action.name for action in decision.actions] == ["p-00", "p-01"]  # type: ignore[union-attr]
