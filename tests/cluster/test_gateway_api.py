"""The Gateway API implementation that tests of rollouts stand on: weights reach real requests, and what it says of a
route is about the route as it is."""

import json
import math
from collections.abc import Mapping
from typing import Any

import yaml

from localcluster import project
from localcluster.using import Running
from tests.support import gateway

REQUESTS = 500
PARTS = ("red", "blue")

ASK = """
import collections, concurrent.futures, http.client, json, sys, time
BODY = json.dumps({"inputs": [{"name": "x", "data": [0.5]}]})
CALLERS = 10

def ask(web):
    try:
        web.request("POST", "/v2/models/m/infer", BODY)
        answer = web.getresponse()
        body = answer.read()
        return json.loads(body)["model_name"] if answer.status == 200 else str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        web.close()
        return type(error).__name__

def call(requests):
    web = http.client.HTTPConnection(sys.argv[1], 80, timeout=10)
    return [ask(web) for _ in range(requests)]

with concurrent.futures.ThreadPoolExecutor(CALLERS) as callers:
    def round(requests):
        return [name for told in callers.map(call, [requests // CALLERS] * CALLERS) for name in told]
    deadline = time.monotonic() + 60
    while not set(round(50)) <= set(sys.argv[3:]) and time.monotonic() < deadline:
        time.sleep(0.1)
    print(json.dumps(collections.Counter(round(int(sys.argv[2])))))
"""


def test_a_route_is_accepted_and_its_weights_are_the_shares_of_requests(
    cluster: Running, namespace: str, gateway_class: str
) -> None:
    serve(cluster, namespace)
    address = gateway.gateway(cluster, namespace, gateway_class)
    apply(cluster, namespace, route({"red": 70, "blue": 30}))
    assert said(cluster, namespace) == {"Accepted": "True", "ResolvedRefs": "True"}

    told = ask(cluster, namespace, address, PARTS)
    assert sum(told.values()) == told.get("red", 0) + told.get("blue", 0) == REQUESTS, told
    error = math.sqrt(0.7 * 0.3 / REQUESTS)
    assert abs(told["blue"] / REQUESTS - 0.3) < 4 * error, told

    apply(cluster, namespace, route({"red": 0, "blue": 100}))
    assert said(cluster, namespace) == {"Accepted": "True", "ResolvedRefs": "True"}
    assert ask(cluster, namespace, address, ("blue",)) == {"blue": REQUESTS}


def test_a_route_to_an_absent_service_does_not_resolve(cluster: Running, namespace: str, gateway_class: str) -> None:
    gateway.gateway(cluster, namespace, gateway_class)
    apply(cluster, namespace, route({"nowhere": 1}))
    assert said(cluster, namespace) == {"Accepted": "True", "ResolvedRefs": "False"}


def apply(cluster: Running, namespace: str, *objects: Mapping[str, Any]) -> None:
    """Apply manifests into the namespace."""
    text = yaml.safe_dump_all([dict(obj) for obj in objects])
    cluster.kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=text)


def route(weights: Mapping[str, int]) -> dict[str, Any]:
    """A route of all requests at the gateway to Services, by weight."""
    references = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
    return {
        "apiVersion": f"{gateway.GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "m"},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": references}]},
    }


def said(cluster: Running, namespace: str) -> dict[str, str]:
    """What the only parent says of the route's present generation, once it says it; status by condition."""
    generation = cluster.kubectl("-n", namespace, "get", "httproute/m", "-o", "jsonpath={.metadata.generation}")
    for kind in ("Accepted", "ResolvedRefs"):
        path = f'{{.status.parents[0].conditions[?(@.type=="{kind}")].observedGeneration}}'
        cluster.kubectl("-n", namespace, "wait", "httproute/m", f"--for=jsonpath={path}={generation}", "--timeout=30s")
    (parent,) = json.loads(cluster.kubectl("-n", namespace, "get", "httproute/m", "-o", "json"))["status"]["parents"]
    return {condition["type"]: condition["status"] for condition in parent["conditions"]}


def serve(cluster: Running, namespace: str) -> None:
    """Two trivial servers behind Services of their names, ready; each answers with its name."""
    image = project.trivial()
    cluster.load(image)
    model = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "model"},
        "data": {"model.json": '{"mean": 0}'},
    }
    apply(cluster, namespace, model, *(made for name in PARTS for made in server(name, image.tag)))
    for name in PARTS:
        cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=60s")


def server(name: str, image: str) -> list[dict[str, Any]]:
    """Deployment and Service of one server."""
    container = {
        "name": "server",
        "image": image,
        "args": ["serve"],
        "env": [{"name": "PERENNIAL_MODEL_NAME", "value": name}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "volumeMounts": [{"name": "model", "mountPath": "/mnt/models"}],
    }
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container], "volumes": [{"name": "model", "configMap": {"name": "model"}}]},
    }
    selector = {"matchLabels": {"app": name}}
    ports = [{"port": 80, "targetPort": 8080}]
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
         "spec": {"replicas": 1, "selector": selector, "template": template}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
         "spec": {"selector": {"app": name}, "ports": ports}},
    ]  # fmt: skip


def ask(cluster: Running, namespace: str, address: str, parts: tuple[str, ...]) -> dict[str, int]:
    """Who answered REQUESTS requests from a pod to the gateway. Counting begins when only
    `parts` answer, since proxies hear of a route a moment after its status says that it is accepted."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "ask-"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "ask",
                "image": project.trivial().tag,
                "command": ["python3", "-c", ASK, address, str(REQUESTS), *parts],
            }],
        },
    }  # fmt: skip
    name = cluster.kubectl("-n", namespace, "create", "-f", "-", "-o", "name", stdin=yaml.safe_dump(pod)).strip()
    cluster.kubectl("-n", namespace, "wait", name, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=110s")
    return dict(json.loads(cluster.kubectl("-n", namespace, "logs", name)))
