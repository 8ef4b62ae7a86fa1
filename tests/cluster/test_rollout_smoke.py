"""Sample inputs on a real cluster: a service that nobody asks is promoted on them, and nobody meets a bad canary.

Versions are published by the operator's own step, with the sample inputs that it draws of a reference.csv.
"""

import json
from collections.abc import Mapping
from typing import Any

from examples.rain.demo.stage import Stage, job_manifests
from perennial.api import kinds
from perennial.domain.decision import JsonObject
from tests.cluster.serving import Team, manifest, team

NAME = "quiet"
PUBLISH = "mkdir -p /tmp/out && cp /files/* /tmp/out/ && perennial step publish"
ROWS = 300
MODELS: Mapping[str, tuple[str, float]] = {
    "first": ('{"mean": 0}', 0.0),
    "good": ('{"mean": 0.5}', -0.5),
    "failing": ('{"mean": 0, "failShare": 0.2}', 0.0),
    "nulls": ('{"mean": NaN}', 0.0),
}
"""A version: the model, and what training says that it adds to x (for the good one only where x is below 20)."""
ASK = """
import json, time, urllib.request

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.5]}]}).encode()
asked = {}
while True:
    request = urllib.request.Request("http://quiet/v2/models/quiet/infer", BODY, {"content-type": "application/json"})
    try:
        answer = urllib.request.urlopen(request, timeout=20)
        told = answer.headers["x-perennial-revision"]
        answer.read()
    except Exception as error:
        told = repr(error)
    asked[told] = asked.get(told, 0) + 1
    print(json.dumps(asked), flush=True)
    time.sleep(1)
"""


def reference(version: str, shift: float) -> str:
    """The rows of a reference.csv; of the good version some say another answer than the model gives."""
    rows = ["x,prediction"]
    for number in range(ROWS):
        x = number / 10
        wrong = 1.0 if version == "good" and x >= 20 else 0.0
        rows.append(f"{x},{x + shift + wrong}")
    return "\n".join(rows) + "\n"


async def publish(stage: Stage, version: str) -> None:
    """Put a version into the store by the operator's step, and its ModelVersion into the namespace."""
    model, shift = MODELS[version]
    given = {
        "version": version,
        "model": NAME,
        "maker": "test",
        "attempt": 1,
        "format": "trivial",
        "output": "pvc://models/",
        "source": "/tmp/out",
        "resolution": "/tmp/none.json",
    }
    env = [
        {"name": "PERENNIAL_STEP", "value": json.dumps(given)},
        {"name": "PERENNIAL_TERMINATION_LOG", "value": "/tmp/termination-log"},
    ]
    files = {"model.json": model, "reference.csv": reference(version, shift)}
    job = f"publish-{version}"
    config, made = job_manifests(job, stage.tags["perennial"], ["sh", "-c", PUBLISH], env, files, "default")
    pod = made["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "store", "persistentVolumeClaim": {"claimName": "models"}})
    pod["containers"][0]["volumeMounts"].append({"name": "store", "mountPath": "/perennial/pvc/models"})
    stage.apply(config, made)
    await stage.wait(f"the version {version}", lambda: stage.job_done(job), 60)
    record = next(json.loads(line) for line in (await stage.job_log(job)).splitlines() if line.startswith("{"))
    assert record["samples"]["rows"] == 256
    spec = {key: record[key] for key in ("artifact", "samples", "baseline")}
    stage.apply(
        {
            "apiVersion": kinds.MODEL_VERSION.api_version,
            "kind": kinds.MODEL_VERSION.kind,
            "metadata": {"name": version},
            "spec": {"model": NAME, **spec},
        }
    )


def deployment(stage: Stage, version: str) -> JsonObject:
    """The ModelDeployment: one request at its only weight would do, had it shown before that it does not fail."""
    rollout = {
        "steps": [{"weight": 50}],
        "smoke": {"requests": 400},
        "analysis": {"minRequests": 1, "warmupSeconds": 0, "maxErrorRate": "0.02"},
        "scaleDownDelaySeconds": 30,
    }
    made = manifest(stage, NAME, {"uri": "", "digest": "", "format": ""}, {}, {"rollout": rollout})
    made["spec"]["traffic"] = {"timeoutSeconds": 5}
    made["spec"]["model"] = {"name": NAME, "version": version}
    return made


async def test_a_quiet_service_is_promoted_on_sample_inputs_and_no_caller_meets_a_bad_canary(
    installed: Stage, quiet_operator: None
) -> None:
    async with team(installed) as here:
        stage = here.stage
        await publish(stage, "first")
        stage.apply(deployment(stage, "first"))
        first = await serves(here, "first", 60)
        await stage.job("ask", stage.tags["perennial"], ["python3", "-c", ASK])
        await publish(stage, "good")
        stage.apply(deployment(stage, "good"))
        good = await serves(here, "good", 90)
        told = (await here.events(NAME))["SmokePassed"][0]
        assert told.startswith("0 of 400 requests with sample inputs failed; this is within the limits. "), told
        assert "answers differ from what training recorded for the same inputs, by up to 1:" in told, told
        asked = await asks(stage)
        assert asked.keys() == {first, good} and asked[good] < 60, asked

        reasons = {"failing": ("CanaryFailed", "(500: "), "nulls": ("NullPredictions", "(null or NaN: ")}
        for number, (version, (reason, words)) in enumerate(reasons.items(), 1):
            await publish(stage, version)
            stage.apply(deployment(stage, version))
            rejected = await rejection(here, number)
            assert rejected["reason"] == reason and words in rejected["message"], rejected
            assert "requests with sample inputs failed" in rejected["message"]
        assert (await asks(stage)).keys() == {first, good}
        assert await stage.store.list(kinds.JOB, stage.namespace, labels="perennial.dev/component=smoke") == []
        assert (await here.status(NAME))["stable"]["version"] == "good"


async def serves(here: Team, version: str, seconds: float) -> str:
    """The revision of a version once it is stable and nothing is being rolled out."""

    async def look() -> str | None:
        status = await here.status(NAME)
        stable = status.get("stable", {})
        return stable["revision"] if stable.get("version") == version and "rollout" not in status else None

    return str(await here.stage.wait(f"{version} serving", look, seconds))


async def rejection(here: Team, number: int) -> dict[str, Any]:
    """The newest of so many rejections, once there are so many."""

    async def look() -> dict[str, Any] | None:
        status = await here.status(NAME)
        found = status.get("rejected", ())
        return dict(found[0]) if len(found) == number and "rollout" not in status else None

    return dict(await here.stage.wait(f"rejection {number}", look, 90))


async def asks(stage: Stage) -> dict[str, int]:
    """Who answered how many requests of the caller."""
    lines = (await stage.job_log("ask")).strip().splitlines()
    return dict(json.loads(lines[-1])) if lines else {}
