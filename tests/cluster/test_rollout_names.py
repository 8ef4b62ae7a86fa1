"""Servers by their own names and libraries on a real cluster: what only Kubernetes and the images can show."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from examples.rain.demo import servers
from examples.rain.demo.stage import Stage, Timeline, build_images
from perennial.adapters.kube import connect_store
from perennial.api import kinds
from perennial.domain import conditions
from tests.cluster.operator import LOOP, make_namespace

NAME = "names"
STORE = """
import sys
sys.path.insert(0, "/files")
import sender
sender.data(0, "first")
sender.artifact(0)
"""

ASK = """
import asyncio, collections, json
import aiohttp

BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]}
SECONDS = 90

async def main():
    told = collections.Counter()
    loop = asyncio.get_running_loop()
    end, enough = loop.time() + SECONDS, 0
    async def client():
        nonlocal enough
        async with aiohttp.ClientSession() as web:
            while loop.time() < end and enough < 200:
                async with web.get("http://names/v2/models/names") as answer:
                    told[f"GET {answer.status} {(await answer.json()).get('name')}"] += 1
                async with web.post("http://names/v2/models/names/infer", json=BODY) as answer:
                    name = (await answer.json()).get("model_name")
                    told[f"POST {answer.status} {name}"] += 1
                    enough = enough + 1 if name == "Forecast.v2" else 0  # the end: all of a long row of answers
                await asyncio.sleep(0.02)
    await asyncio.gather(*(client() for _ in range(4)))
    print(json.dumps(told), flush=True)

asyncio.run(main())
"""

GROW = """
import json
import lightgbm, numpy, pandas
table = pandas.read_csv(next(iter(__import__("glob").glob("/perennial/data/train/**/*.csv", recursive=True))))
model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(table[["x"]], table.x > 0)
model.booster_.save_model("/perennial/output/model.txt")
json.dump({"rows": len(table)}, open("/perennial/output/metrics.json", "w"))
"""

PREDICT = """
import json, urllib.request
asked = json.dumps({"instances": [{"x": 2.0}, {"x": -2.0}]}).encode()
request = urllib.request.Request("http://grown/v1/models/grown:predict", asked, {"content-type": "application/json"})
print(urllib.request.urlopen(request, timeout=20).read().decode(), flush=True)
"""


@asynccontextmanager
async def team(installed: Stage) -> AsyncIterator[tuple[Stage, dict[str, Any]]]:
    """A namespace with a store, and the facts of a model in it."""
    async with connect_store(kubeconfig=str(installed.cluster.kubeconfig)) as (store, _):
        stage = Stage(installed.cluster, store, Timeline(), f"{NAME}-{secrets.token_hex(3)}", installed.tags)
        make_namespace(stage)
        try:
            await stage.serve_git_and_store()
            files = {"sender.py": (LOOP / "sender.py").read_text()}
            script = ["python3", "-c", STORE]
            await stage.job("store", stage.tags["perennial"], script, env=servers.store_env(), files=files)
            await stage.wait("the artifact", lambda: stage.job_done("store"), 60)
            yield stage, json.loads((await stage.job_log("store")).strip().splitlines()[-1])
        finally:
            stage.kubectl("delete", "namespace", stage.namespace, "--wait=false")


def deployment(name: str, container: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A ModelDeployment with a container of its own."""
    return {
        "apiVersion": kinds.MODEL_DEPLOYMENT.api_version,
        "kind": kinds.MODEL_DEPLOYMENT.kind,
        "metadata": {"name": name},
        "spec": {
            "container": container,
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}},
            "storage": {"secretRef": {"name": "rain-store"}},
            **spec,
        },
    }


async def serving(stage: Stage, name: str, other_than: str = "") -> str | None:
    """The stable revision once the deployment is Ready and it is another one."""
    status = (await stage.store.get(kinds.MODEL_DEPLOYMENT, stage.namespace, name) or {}).get("status", {})
    revision: str | None = status.get("stable", {}).get("revision")
    ready = conditions.is_true(status.get("conditions", ()), "Ready")
    return revision if ready and revision != other_than else None


async def test_clients_keep_their_name_while_a_rollout_changes_the_servers(installed: Stage) -> None:
    async with team(installed) as (stage, artifact):
        served = {"image": stage.tags["trivial"], "command": ["python3", "/opt/trivial.py", "serve"]}
        model = {"name": NAME, "artifact": {key: artifact[key] for key in ("uri", "digest", "format")}}
        rollout = {"steps": [{"weight": 50}], "analysis": {"warmupSeconds": 0}}
        stage.apply(deployment(NAME, served, model=model, rollout=rollout))
        first = await stage.wait("the first revision", lambda: serving(stage, NAME), 90)
        await stage.job("client", stage.tags["perennial"], ["python3", "-c", ASK])
        stage.apply(deployment(NAME, served, model={**model, "servedName": "Forecast.v2"}, rollout=rollout))
        await stage.wait("the other revision", lambda: serving(stage, NAME, first), 120)
        await stage.wait("the client", lambda: stage.job_done("client"), 120)
        told = json.loads((await stage.job_log("client")).strip().splitlines()[-1])
        assert set(told) == {f"{verb} 200 {name}" for verb in ("GET", "POST") for name in (NAME, "Forecast.v2")}


async def test_a_lightgbm_model_is_trained_in_the_servers_image_and_served_by_it(installed: Stage) -> None:
    async with team(installed) as (stage, _):
        image = build_images(installed.cluster, stage.timeline, ("runtime",))["runtime"]
        small = {"requests": {"cpu": "10m"}, "limits": {"memory": "512Mi"}}
        training = {
            "apiVersion": kinds.TRAINING_JOB.api_version,
            "kind": kinds.TRAINING_JOB.kind,
            "metadata": {"name": "grow"},
            "spec": {
                "model": "grown",
                "image": image,
                "command": ["python3", "-c", GROW],
                "datasets": [{"name": "train", "uri": "s3://loop/train/"}],
                "resources": small,
                "output": {"uri": "s3://loop/models/", "format": "lightgbm"},
                "storage": {"secretRef": {"name": "rain-store"}},
                "gate": [{"metric": "rows", "min": "100"}],
                "retry": {"maxAttempts": 1, "backoffSeconds": 0},
            },
        }
        model = {"name": "grown", "updatePolicy": "Direct"}
        stage.apply(training, deployment("grown", {"image": image, "args": ["--format=lightgbm"]}, model=model))

        async def chosen() -> str | None:
            status = (await stage.store.get(kinds.MODEL_DEPLOYMENT, stage.namespace, "grown") or {}).get("status", {})
            return status.get("stable", {}).get("version") if await serving(stage, "grown") else None

        await stage.wait("the model to serve", chosen, 180)
        await stage.job("client", stage.tags["perennial"], ["python3", "-c", PREDICT])
        await stage.wait("the client", lambda: stage.job_done("client"), 60)
        (warm, cold) = json.loads((await stage.job_log("client")).strip())["predictions"]
        assert warm > 0.5 > cold
