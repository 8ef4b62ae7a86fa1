"""What a pass over a TrainingJob decides. Pure: a frozen world and a time in, a status and actions out.

A run is recorded before its Job exists; an attempt is recorded before its Job exists; everything that must go (Jobs of
superseded, cancelled or ended runs) is found by comparing the Jobs that are there with the run that is recorded, so a
crash between any two writes leads to the same end.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from perennial.api.names import ANNOTATION_SYNC_COMMIT, LABEL_ATTEMPT, LABEL_RUN
from perennial.domain import reasons
from perennial.domain.conditions import Condition
from perennial.domain.decision import Decision, EventNote
from perennial.domain.owners import is_controlled_by
from perennial.domain.times import parse_time, rfc3339, seconds_between
from perennial.domain.training import failure as failures
from perennial.domain.training import gate, progress, waiting
from perennial.domain.training.champion import Champion
from perennial.domain.training.finish import Run, ended, finish_with_version, give_up, standing, status
from perennial.domain.training.lineage import Observed, version_spec
from perennial.domain.training.run import RunIdentity, identities, job_name, version_name
from perennial.domain.training.state import PHASES, STARTING, Phase
from perennial.domain.training.usage import gpu_seconds
from perennial.domain.training.world import (
    Action,
    Artifact,
    CreateAttempt,
    CreateReport,
    CreateVersion,
    DeleteJob,
    World,
    current_stage,
    is_failed,
    is_over,
    stages,
    wanted_run,
)

SELF_HEALING_SECONDS = 60.0
"""How often a trouble that another object can resolve is looked at again."""
POLL_SECONDS = 5.0
"""How often waiting reasons that no watch tells us of are read (events of quota and volumes)."""
MAX_BACKOFF_SECONDS = 3600.0


def decide(world: World, now: datetime) -> Decision[Action]:
    """The status and the next action for the TrainingJob."""
    if world.job["metadata"].get("deletionTimestamp"):
        return Decision(world.recorded)
    wanted = wanted_run(world.job)
    run: Run = world.recorded.get("run") or {}
    if run.get("id") != wanted.id:
        return _begin(world, wanted, now)
    if run.get("finishedTime"):
        return ended(world, run, now)
    leftover = _leftover(world, run)
    if leftover is not None:
        return _cancel(world, run, leftover, now)
    if world.spec.get("suspend"):
        return _suspend(world, run, now)
    if run.get("attempt", 0) == 0:
        return _fix_champion(world, run, now)
    if (taken := _taken_volume(world)) is not None:
        text = (
            f"spec.template names volume {taken}; names that begin with perennial- are the operator's, choose another"
        )
        return _held(world, run, reasons.VOLUME_NAME_TAKEN, text, now)
    if world.base_problem:
        return _held(world, run, reasons.BASE_UNKNOWN, world.base_problem, now)
    stage = current_stage(world)
    if stage is None:
        return _publish(world, run, now)
    child = world.children.get(stage)
    if child is None:
        return _start(world, run, now)
    if not is_controlled_by(child, world.job):
        name = child["metadata"]["name"]
        return _held(world, run, reasons.NAME_TAKEN, f"Job {name} exists and is not ours; rename or remove it", now)
    if is_failed(child):
        found = failures.classify(child, world.pods, world.spec, world.log_tail)
        return _after_failure(world, run, found, now)
    return _watch(world, run, child, now)


def _begin(world: World, wanted: RunIdentity, now: datetime) -> Decision[Action]:
    """A spec that no recorded run stands for: close the old run, record the new one."""
    old: Run = world.recorded.get("run") or {}
    events: list[EventNote] = []
    history = list(world.recorded.get("history") or ())
    if old.get("id") and not old.get("finishedTime"):
        text = f"run {old['id']} was superseded by run {wanted.id}, because the spec changed"
        history.insert(0, standing(old, "Superseded", text, rfc3339(now)))
        events.append(EventNote(reasons.RUN_SUPERSEDED, text))
    if world.version is not None:
        return _already_made(world, wanted, history, events, now)
    if world.spec.get("suspend"):
        return _begin_suspended(world, old, history, events, now)
    attempt = 0 if gate.needs_champion(world.spec) else _first_attempt(world, wanted.id)
    run = _new_run(world, wanted, attempt, now)
    text = f"run {wanted.id} is recorded; its Job follows"
    events.append(EventNote(reasons.RUN_RECORDED, text))
    ready = Condition("Ready", "True", reasons.PENDING, _doing(run, STARTING) if attempt else text)
    return Decision(status(world, run, [ready], now, history=history), events=tuple(events), requeue_after=0.0)


def _begin_suspended(
    world: World, old: Run, history: list[Any], events: list[EventNote], now: datetime
) -> Decision[Action]:
    """No run of this spec starts; what still runs of a superseded one goes, once that it is superseded is recorded."""
    ready = Condition("Ready", "True", reasons.SUSPENDED, "spec.suspend is set: no run of this spec starts")
    kept = old if old.get("finishedTime") else None
    made = status(world, kept, [ready], now, history=history)
    if old.get("id") and kept is None:
        return Decision(made, events=tuple(events), requeue_after=0.0)
    left = _leftover(world, {})
    actions = () if left is None else (DeleteJob(left["metadata"]["name"], left["metadata"]["uid"]),)
    return Decision(made, actions, events=tuple(events), requeue_after=1.0 if actions else None)


def _new_run(world: World, wanted: RunIdentity, attempt: int, now: datetime) -> Run:
    text = rfc3339(now)
    run: Run = {
        "id": wanted.id,
        "recipe": wanted.recipe,
        "specHash": wanted.spec_hash,
        "attempt": attempt,
        "failedAttempts": 0,
        "startedTime": text,
        "attemptTime": text,
        "job": _first_job(world, wanted.id, attempt or _first_attempt(world, wanted.id)),
        "datasets": [],
    }
    if world.spec.get("request"):
        run["request"] = dict(world.spec["request"])
    return run


def _first_attempt(world: World, run_id: str) -> int:
    """The number of a run's first attempt: 1, or past the Jobs that are left when a spec comes back after another."""
    taken = [
        int((job["metadata"].get("labels") or {}).get(LABEL_ATTEMPT, 0))
        for job in world.owned
        if (job["metadata"].get("labels") or {}).get(LABEL_RUN) == run_id
    ]
    return 1 + max(taken, default=0)


def _first_job(world: World, run_id: str, attempt: int) -> str:
    return job_name(world.job["metadata"]["name"], run_id, attempt, stages(world.spec)[0])


def _already_made(
    world: World, wanted: RunIdentity, history: list[Any], events: list[EventNote], now: datetime
) -> Decision[Action]:
    assert world.version is not None
    name = world.version["metadata"]["name"]
    model = str(world.spec["model"])
    made = next((i for i in identities(world.spec) if version_name(model, i.id) == name), wanted)
    run = _new_run(world, made, 0, now)
    del run["job"], run["attemptTime"]
    return finish_with_version(world, run, world.version, now, outcome="AlreadyMade", history=history, before=events)


def _names_of(world: World, run: Run) -> set[str]:
    own, attempt = world.job["metadata"]["name"], int(run.get("attempt", 0))
    if not attempt:
        return set()
    names = {job_name(own, run["id"], attempt, stage) for stage in stages(world.spec)}
    return {*names, job_name(own, run["id"], attempt, "report")}


def _leftover(world: World, run: Run) -> Mapping[str, Any] | None:
    """A Job that still runs although it belongs to no current attempt."""
    kept = _names_of(world, run)
    for job in world.owned:
        if job["metadata"]["name"] not in kept and not is_over(job) and not job["metadata"].get("deletionTimestamp"):
            return job
    return None


def _cancel(world: World, run: Run, job: Mapping[str, Any], now: datetime) -> Decision[Action]:
    text = f"Job {job['metadata']['name']} of an earlier attempt is being removed before the next one starts"
    made = [
        Condition("Ready", "True", reasons.CANCELLING, text),
        Condition("Reconciling", "True", reasons.CANCELLING, text),
    ]
    action = DeleteJob(job["metadata"]["name"], job["metadata"]["uid"])
    return Decision(status(world, run, made, now), (action,), requeue_after=1.0)


def _suspend(world: World, run: Run, now: datetime) -> Decision[Action]:
    text = f"spec.suspend is set: run {run['id']} is not going on"
    ready = Condition("Ready", "True", reasons.SUSPENDED, text)
    if any(not is_over(job) for job in world.children.values()):
        # The next attempt is recorded at once, without cost: its Job is not made while suspended, and the running
        # one, no longer the current attempt's, is removed as a leftover.
        used = _with_usage(world, run, now)
        return Decision(
            status(world, _next_attempt(world, used, 0.0, now), [ready], now),
            events=(EventNote(reasons.SUSPENDED, text),),
            requeue_after=0.0,
        )
    return Decision(status(world, run, [ready], now))


def _taken_volume(world: World) -> str | None:
    """A volume or mount of the user's that would reach ours: data that training must not see lies on it."""
    extras = world.spec.get("template") or {}
    names = [str(entry.get("name", "")) for part in ("volumes", "volumeMounts") for entry in extras.get(part) or ()]
    return next((name for name in names if name.startswith("perennial-")), None)


def _held(world: World, run: Run, reason: str, text: str, now: datetime) -> Decision[Action]:
    """Stalled, but not ended: it goes on by itself once the trouble is gone."""
    made = [Condition("Ready", "False", reason, text), Condition("Stalled", "True", reason, text)]
    return Decision(
        status(world, run, made, now), events=_once(world, reason, text), requeue_after=SELF_HEALING_SECONDS
    )


def _once(world: World, reason: str, text: str, *, warning: bool = True) -> tuple[EventNote, ...]:
    """An event only when Ready did not say the same before."""
    ready: Mapping[str, Any] = next((c for c in world.recorded.get("conditions") or () if c["type"] == "Ready"), {})
    if ready.get("reason") == reason and ready.get("message") == text:
        return ()
    return (EventNote(reason, text, "Warning" if warning else "Normal"),)


def _fix_champion(world: World, run: Run, now: datetime) -> Decision[Action]:
    found = world.champion or Champion("Unknown", message="the champion has not been looked up yet")
    if found.state == "Ambiguous":
        return _held(world, run, reasons.CHAMPION_AMBIGUOUS, found.message, now)
    if found.state == "Unknown":
        limit = float(world.spec.get("pendingSeconds", 3600))
        if seconds_between(run["startedTime"], now) >= limit:
            return _held(world, run, reasons.CHAMPION_UNKNOWN, f"{found.message}; it did not appear in time", now)
        text = f"run {run['id']} waits for its champion: {found.message}"
        ready = Condition("Ready", "True", reasons.CHAMPION_UNKNOWN, text)
        return Decision(
            status(world, run, [ready], now),
            events=_once(world, reasons.CHAMPION_UNKNOWN, text),
            requeue_after=POLL_SECONDS,
        )
    chosen: dict[str, Any] = {"note": "no deployment of this model serves or names a version"}
    if found.state == "Known":
        chosen = {"version": found.version or None, "digest": found.digest}
        chosen = {key: value for key, value in chosen.items() if value}
    attempt = _first_attempt(world, run["id"])
    fixed = {**run, "champion": chosen, "attempt": attempt, "attemptTime": rfc3339(now)}
    fixed["job"] = _first_job(world, run["id"], attempt)
    ready = Condition("Ready", "True", reasons.PENDING, _doing(fixed, STARTING))
    return Decision(status(world, fixed, [ready], now), requeue_after=0.0)


def _next_attempt(world: World, run: Run, delay: float, now: datetime) -> Run:
    attempt = int(run["attempt"]) + 1
    following = {key: value for key, value in run.items() if key != "runningTime"}
    following["attempt"] = attempt
    following["attemptTime"] = rfc3339(now + timedelta(seconds=delay))
    following["job"] = _first_job(world, run["id"], attempt)
    return following


def _start(world: World, run: Run, now: datetime) -> Decision[Action]:
    stage = current_stage(world)
    assert stage is not None
    name = job_name(world.job["metadata"]["name"], run["id"], int(run["attempt"]), stage)
    if run.get("runningTime") and run.get("job") == name:
        return _after_failure(world, run, failures.classify(None, (), world.spec), now)
    delay = -seconds_between(run["attemptTime"], now)
    if delay > 0:
        return Decision(status(world, run, _retrying(world, run), now), requeue_after=delay)
    champion = world.champion if run.get("champion", {}).get("digest") else None
    if champion is not None and champion.state != "Known":
        return _held(world, run, reasons.CHAMPION_UNKNOWN, champion.message, now)
    fetched = Artifact(champion.uri, champion.digest) if champion else None
    text = _doing(run, STARTING)
    made = [Condition("Ready", "True", reasons.PENDING, text), *_data(world, run)]
    return Decision(
        status(world, run, made, now),
        (CreateAttempt(run, stage, fetched, world.base),),
        events=_once(world, reasons.ATTEMPT_STARTED, text, warning=False),
        requeue_after=POLL_SECONDS,
    )


def _retrying(world: World, run: Run) -> list[Condition]:
    said = (run.get("failure") or {}).get("message", "the attempt before it was disrupted")
    text = f"attempt {run['attempt']} of run {run['id']} starts at {run['attemptTime']}; before it: {said}"
    return [Condition("Ready", "True", reasons.RETRYING, text), *_data(world, run)]


def _data(world: World, run: Run) -> list[Condition]:
    """DataVerified of this run: once the data was seen to be good it stays so for the run's later attempts."""
    if run.get("datasets") or progress.is_fetched(world.pods):
        text = f"{len(world.spec.get('datasets') or ())} datasets were fetched and are what they must be"
        return [Condition("DataVerified", "True", reasons.DATA_VERIFIED, text)]
    return []


def _watch(world: World, run: Run, child: Mapping[str, Any], now: datetime) -> Decision[Action]:
    """The attempt's Job is there and not over: see how far it is, and whether it takes too long."""
    begun = progress.first_start(world.pods)
    seen = {**run, "job": child["metadata"]["name"]}
    if begun and not run.get("runningTime"):
        seen["runningTime"] = begun
    if (image := progress.image_id(world.pods)) and not run.get("imageDigest"):
        seen["imageDigest"] = image
    if world.resolution and not run.get("datasets"):
        seen["datasets"] = [dict(item) for item in world.resolution]
    late = _too_late(world, seen, now)
    if late is not None:
        return late
    why = None if progress.runs(world.pods) else waiting.of_attempt(child, world.pods, world.events)
    if why is not None and why.reason != "Starting":
        reason, text = why.reason, f"attempt {run['attempt']} of run {run['id']} waits: {why.message}"
    else:
        step = progress.phase(world.pods)
        reason, text = step.reason, _doing(run, step)
    made = [Condition("Ready", "True", reason, text), *_data(world, seen)]
    told = _once(world, reason, text) if why is not None and why.reason != "Starting" else ()
    return Decision(status(world, seen, made, now), events=told, requeue_after=_next_look(world, seen, now))


def _doing(run: Run, step: Phase) -> str:
    return f"attempt {run['attempt']} of run {run['id']} {step.doing}"


def _begun(world: World, run: Run) -> str:
    """When the current stage's Job was made; the attempt's own time while there is none."""
    stage = current_stage(world)
    child = world.children.get(stage) if stage is not None else None
    made = str(child["metadata"].get("creationTimestamp") or "") if child is not None else ""
    return max(made, str(run["attemptTime"]))


def _limits(world: World, run: Run) -> list[tuple[str, datetime]]:
    """(which, when) of the deadlines that apply now."""
    found = []
    if run.get("runningTime"):
        limit = timedelta(seconds=float(world.spec.get("deadlineSeconds", 14400)))
        found.append(("deadline", parse_time(run["runningTime"]) + limit))
    if not progress.runs(world.pods):
        since = parse_time(progress.idle_since(world.pods, _begun(world, run)))
        found.append(("pending", since + timedelta(seconds=float(world.spec.get("pendingSeconds", 3600)))))
    return found


def _next_look(world: World, run: Run, now: datetime) -> float:
    seconds = [max(0.0, (when - now).total_seconds()) for _, when in _limits(world, run)]
    if not progress.runs(world.pods):
        seconds.append(POLL_SECONDS)
    return min(seconds)


def _too_late(world: World, run: Run, now: datetime) -> Decision[Action] | None:
    for which, when in _limits(world, run):
        if now < when:
            continue
        if which == "deadline":
            text = (
                f"attempt {run['attempt']} ran longer than spec.deadlineSeconds ({world.spec.get('deadlineSeconds')})"
            )
            late = failures.Failure(reasons.DEADLINE_EXCEEDED, text, "Counted")
            return _after_failure(world, run, late, now)
        stage = current_stage(world)
        child = world.children.get(stage) if stage is not None else None
        why = waiting.of_attempt(child, world.pods, world.events) if child is not None else None
        reason = why.reason if why is not None else reasons.PENDING
        said = why.message if why is not None else "no reason is known"
        text = f"nothing ran within spec.pendingSeconds ({world.spec.get('pendingSeconds')}): {said}"
        return _after_failure(world, run, failures.Failure(reason, text, "No"), now)
    return None


def _with_usage(world: World, run: Run, now: datetime) -> Run:
    used = gpu_seconds([*world.earlier_pods, *world.pods], now)
    before = run.get("gpuSeconds") or {}
    total = {key: int(before.get(key, 0)) + amount for key, amount in used.items()}
    return {**run, "gpuSeconds": total}


def _after_failure(world: World, run: Run, found: failures.Failure, now: datetime) -> Decision[Action]:
    """Record the failure; then another attempt, or the end."""
    counted = int(run.get("failedAttempts", 0)) + (found.retry != "Free")
    said: dict[str, Any] = {"reason": found.reason, "message": found.message}
    if found.culprit is not None:
        said.update(container=found.culprit.container, exitCode=min(found.culprit.exit_code, 255))
    failed = {**_with_usage(world, run, now), "failure": said, "failedAttempts": counted}
    budget = int((world.spec.get("retry") or {}).get("maxAttempts", 3))
    bad_data = found.reason == reasons.DATA_INVALID and said.get("container") in ("fetch", "validate")
    data = [Condition("DataVerified", "False", found.reason, found.message)] if bad_data else _data(world, run)
    if found.retry == "No" or (found.retry == "Counted" and counted >= budget):
        return give_up(world, failed, found, data, now)
    base = float((world.spec.get("retry") or {}).get("backoffSeconds", 10))
    delay = min(base * 2 ** max(0, counted - 1), MAX_BACKOFF_SECONDS) if found.retry == "Counted" else base
    following = _next_attempt(world, failed, delay, now)
    text = f"attempt {run['attempt']} of run {run['id']} failed: {found.message}"
    made = _retrying(world, following)
    return Decision(
        status(world, following, [*(c for c in made if c.type != "DataVerified"), *data], now),
        events=(EventNote(reasons.ATTEMPT_FAILED, text, "Warning"),),
        requeue_after=delay,
    )


def _publish(world: World, run: Run, now: datetime) -> Decision[Action]:
    """The attempt's Jobs are complete: read its record, make the version, end the run."""
    name = version_name(str(world.spec["model"]), run["id"])
    if world.version is not None:
        lineage = (world.version.get("spec") or {}).get("lineage") or {}
        if lineage.get("run") != run["id"]:
            text = f"ModelVersion {name} exists and was not made by run {run['id']}; remove it to record this run"
            return _held(world, run, reasons.NAME_TAKEN, text, now)
        return finish_with_version(world, _with_usage(world, run, now), world.version, now)
    publication = world.publication
    step = PHASES["publish"]
    made = [Condition("Ready", "True", step.reason, _doing(run, step)), *_data(world, run)]
    if publication is None:
        return Decision(status(world, run, made, now), requeue_after=1.0)
    if publication.record is not None:
        spec = version_spec(world.spec, publication.record, _observed(world, run))
        return Decision(status(world, run, made, now), (CreateVersion(name, spec),), requeue_after=0.0)
    if publication.lost:
        return _report(world, run, publication.problem, made, now)
    found = failures.Failure(reasons.PUBLISH_FAILED, publication.problem, "Counted")
    return _after_failure(world, run, found, now)


def _report(world: World, run: Run, problem: str, made: list[Condition], now: datetime) -> Decision[Action]:
    if world.report is None:
        return Decision(status(world, run, made, now), (CreateReport(run),), requeue_after=POLL_SECONDS)
    if not is_controlled_by(world.report, world.job):
        name = world.report["metadata"]["name"]
        return _held(world, run, reasons.NAME_TAKEN, f"Job {name} exists and is not ours; rename or remove it", now)
    if is_failed(world.report):
        text = f"{problem}, and the report Job could not read the record from the store either"
        return _after_failure(world, run, failures.Failure(reasons.RECORD_LOST, text, "Counted"), now)
    return Decision(status(world, run, made, now), requeue_after=POLL_SECONDS)


def _observed(world: World, run: Run) -> Observed:
    image_id = str(run.get("imageDigest") or progress.image_id(world.pods))
    image = str(world.spec["image"])
    if "@" in image_id:
        image = image_id
    elif image_id:
        image = f"{image}@{image_id}"
    stage = stages(world.spec)[-1]
    job_status = world.children[stage].get("status") or {}
    return Observed(
        training_job=world.job["metadata"]["name"],
        run=run["id"],
        request=run.get("request") or {},
        commit=(world.job["metadata"].get("annotations") or {}).get(ANNOTATION_SYNC_COMMIT, ""),
        image=image,
        started=run["startedTime"],
        finished=job_status.get("completionTime") or run["startedTime"],
        champion=run.get("champion") or {},
    )
