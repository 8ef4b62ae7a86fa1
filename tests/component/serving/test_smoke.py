"""Sample inputs in a whole little cluster: one Job, its report into status, and the Job gone again."""

from typing import Any

from perennial.api import kinds
from perennial.domain.rollout.smoke import Answers
from tests.component.serving.rig import V1, V2, Rig, version

SAMPLES = {"uri": "s3://m/rain/samples/s.csv", "digest": "sha256:" + "5" * 64, "rows": 256}
SPEC: dict[str, Any] = {"rollout": {"smoke": {"requests": 400}}, "storage": {"secretRef": {"name": "store"}}}
GOOD = Answers(sent=400, good=400, compared=256, different=3, largest="0.2", p50=12, p95=30)


async def with_canary(rig: Rig) -> Rig:
    """V2 with sample inputs beside V1."""
    await rig.serve_first(**SPEC)
    await rig.world.person(version(V2, samples=SAMPLES))
    await rig.name(V2, **SPEC)
    return rig


async def test_one_job_asks_the_canary_and_its_report_is_in_status_before_it_goes() -> None:
    rig = await with_canary(Rig())
    assert (rig.state, rig.status["canary"]["weight"]) == ("Smoke", 0)
    (job,) = rig.world.store.all(kinds.JOB)
    revision = rig.status["canary"]["revision"]
    pod = job["spec"]["template"]
    assert f"http://rain-rev-{revision}.default.svc:8080" in str(pod["spec"]["containers"][0]["env"])
    assert "perennial.dev/revision" not in pod["metadata"]["labels"]
    rig.cluster.answers = GOOD
    await rig.cluster.settle()
    assert rig.world.store.all(kinds.JOB) == []
    assert (rig.state, rig.status["canary"]["weight"]) == ("Analysing", 5)
    told = rig.status["rollout"]["smoke"]
    assert (told["sent"], told["failures"], told["different"], told["p95Milliseconds"]) == (400, 0, 3, 30)
    assert "3 of 256 answers differ" in told["skew"]
    await rig.cluster.run_until(lambda: rig.stable() == V2)


async def test_another_operator_process_takes_the_job_that_is_there() -> None:
    rig = await with_canary(Rig())
    (before,) = rig.world.store.all(kinds.JOB)
    rig.world.restart()
    await rig.cluster.run_for(10)
    (after,) = rig.world.store.all(kinds.JOB)
    assert before["metadata"]["uid"] == after["metadata"]["uid"] and rig.state == "Smoke"
    rig.cluster.answers = GOOD
    await rig.cluster.settle()
    assert rig.state == "Analysing"


async def test_a_bad_canary_is_aborted_before_any_router_sends_it_a_request() -> None:
    rig = await with_canary(Rig())
    rig.cluster.answers = Answers(sent=40, good=20, codes=(("500", 20),), first="answered 500: no")
    await rig.cluster.run_until(lambda: "rejected" in rig.status and rig.state == "Rest")
    (rejected,) = rig.status["rejected"]
    assert rejected["reason"] == "CanaryFailed" and "(500: 20; the first: answered 500: no)" in rejected["message"]
    assert all(weights.get(rejected["revision"], 0) == 0 for weights in rig.routers.seen_weights)
    assert rig.world.store.all(kinds.JOB) == [] and rig.stable() == V1
