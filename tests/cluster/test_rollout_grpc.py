"""HTTP and gRPC of the reference server on a real cluster: two ports, one host, one rollout, one number."""

import json
import operator
from typing import Any

from examples.rain.demo.stage import build_images
from perennial.domain.decision import JsonObject
from tests.cluster.serving import Team, artifact, manifest, team

NAME = "both"
LEAF = 0.5555556
STUMP = {
    "base_weights": [0.0, -LEAF, LEAF],
    "categories": [],
    "categories_nodes": [],
    "categories_segments": [],
    "categories_sizes": [],
    "default_left": [0, 0, 0],
    "id": 0,
    "left_children": [1, -1, -1],
    "loss_changes": [92.6, 0.0, 0.0],
    "parents": [2147483647, 0, 0],
    "right_children": [2, -1, -1],
    "split_conditions": [0.0, -LEAF, LEAF],
    "split_indices": [0, 0, 0],
    "split_type": [0, 0, 0],
    "sum_hessian": [25.0, 12.5, 12.5],
    "tree_param": {"num_deleted": "0", "num_feature": "1", "num_nodes": "3", "size_leaf_vector": "1"},
}
FOREST = {
    "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": "1"},
    "iteration_indptr": [0, 1],
    "tree_info": [0],
    "trees": [STUMP],
}
LEARNER = {
    "attributes": {},
    "feature_names": ["x"],
    "feature_types": [],
    "gradient_booster": {"model": FOREST, "name": "gbtree"},
    "learner_model_param": {"base_score": "5E-1", "num_class": "0", "num_feature": "1", "num_target": "1"},
    "objective": {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}},
}
MODEL = json.dumps({"learner": LEARNER, "version": [3, 2, 0]})
"""An XGBoost model of one tree, as save_model writes it: x < 0 or not."""
PREDICTION = "0.6354"

ASK = """
import asyncio, collections, json, sys
import aiohttp, grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

EACH, LAST, SECONDS = int(sys.argv[1]), sys.argv[2], 60
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]}
CALL = messages.ModelInferRequest(model_name="both")
CALL.inputs.add(name="x", datatype="FP64", shape=[1]).contents.fp64_contents.append(0.5)
told = collections.Counter()

async def over_http(web):
    async with web.post("http://both/v2/models/both/infer", json=BODY) as answer:
        page = await answer.json()
        if answer.status != 200:
            return str(answer.status), ""
        return answer.headers["x-perennial-revision"], page["outputs"][0]["data"][0]

async def over_grpc(stub):
    going = stub.ModelInfer(CALL, timeout=20)
    try:
        answer = await going
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}", ""
    metadata = dict(await going.initial_metadata())
    return metadata["x-perennial-revision"], answer.outputs[0].contents.fp64_contents[0]

async def main():
    loop = asyncio.get_running_loop()
    end = loop.time() + SECONDS
    async def client(protocol, ask):
        row = count = 0
        while loop.time() < end and (row < 50 if LAST else count < EACH):
            who, prediction = await ask()
            told[f"{protocol} {who} {prediction and round(prediction, 4)}"] += 1
            row, count = (row + 1 if who == LAST else 0), count + 1
            await asyncio.sleep(0.02)
    async with aiohttp.ClientSession() as web, grpc.aio.insecure_channel("both:80") as channel:
        stub = GRPCInferenceServiceStub(channel)
        await asyncio.gather(client("http", lambda: over_http(web)), client("grpc", lambda: over_grpc(stub)))
    print(json.dumps(told), flush=True)

asyncio.run(main())
"""


def deployment(people: Team, image: str, colour: str) -> JsonObject:
    """The reference server with both its ports; another colour is another revision."""
    spec = {
        "container": {
            "image": image,
            "command": ["python3", "-m", "model_server", "--format=xgboost"],
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 8081}],
        },
        "resources": {"limits": {"memory": "512Mi"}},
        "traffic": {"timeoutSeconds": 5},
        "rollout": {"steps": [{"weight": 50}], "analysis": {"warmupSeconds": 0, "maxErrorRate": "0.05"}},
    }
    return manifest(people.stage, NAME, artifact(MODEL), {"COLOUR": colour}, spec)


async def answers(people: Team, image: str, job: str, each: int, last: str = "") -> dict[str, int]:
    """What was answered to so many requests of each protocol, or to as many as it takes until only `last` answers."""
    await people.stage.job(job, image, ["python3", "-c", ASK, str(each), last])
    await people.stage.wait(job, lambda: people.stage.job_done(job), 120)
    told: dict[str, int] = json.loads((await people.stage.job_log(job)).strip().splitlines()[-1])
    return told


async def test_http_and_grpc_of_one_server_go_through_a_rollout_together(installed: Any) -> None:
    image = build_images(installed.cluster, installed.timeline, ("runtime",))["runtime"]
    async with team(installed, MODEL) as people:
        people.stage.apply(deployment(people, image, "blue"))
        first = (await people.at_rest(NAME, 90))["stable"]["revision"]
        people.stage.apply(deployment(people, image, "green"))

        async def analysed() -> str | None:
            rollout = (await people.status(NAME)).get("rollout", {})
            return rollout["targetRevision"] if rollout.get("state") == "Analysing" else None

        second = await people.stage.wait("the canary to get requests", analysed, 90)
        told = await answers(people, image, "some", 60)
        both = {f"{protocol} {revision} {PREDICTION}" for protocol in ("http", "grpc") for revision in (first, second)}
        assert set(told) == both and sum(told.values()) == 120
        expected = [sum(told[f"{one} {arm} {PREDICTION}"] for one in ("http", "grpc")) for arm in (second, first)]

        async def counted() -> JsonObject | None:
            analysis: JsonObject = (await people.status(NAME))["rollout"].get("analysis", {})
            seen = [analysis.get("requests", 0), analysis.get("stableRequests", 0)]
            assert all(map(operator.le, seen, expected)), "requests are counted once"
            return analysis if seen == expected else None

        analysis = await people.stage.wait("the requests of both protocols in the status", counted, 30)
        assert (analysis.get("failures", 0), analysis.get("stableFailures", 0)) == (0, 0)
        assert set(await answers(people, image, "all", 0, second)) == both
        people.wait_ready(NAME, 30)
        assert (await people.status(NAME))["stable"]["revision"] == second
