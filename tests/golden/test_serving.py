"""A revision's objects, byte for byte: a changed line here would run in everybody's serving pods."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from perennial.api.crdgen import ROOT
from perennial.app.settings import Settings
from perennial.app.wiring import runtime_table
from perennial.domain.revision import Resolved, resolve_runtime
from perennial.domain.rollout.smoke import Samples
from perennial.domain.rollout.spec import GatewayRoute, Parent, Scaling
from perennial.domain.rollout.world import Artifact, Target
from perennial.render.gateway import http_route, is_attached, weights_of
from perennial.render.serving import autoscaler, revision_budget, revision_deployment, revision_service
from perennial.render.smoke import smoke_job
from perennial.render.training_containers import StepImage
from tests.support.golden import as_yaml, check

STEP = StepImage("registry/perennial:0.1.0")
DIGEST = "sha256:" + "ab" * 32


def owner(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "rain", "namespace": "team", "uid": "uid-1", "labels": {"theirs": "stays"}}
    body = {"model": {"name": "rain"}, "traffic": {"timeoutSeconds": 60}, **spec}
    return {"apiVersion": "perennial.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": body}


def target(uri: str = "s3://models/rain/sha256-abab/", **entry: Any) -> Target:
    table = entry or {"image": "registry/perennial-sklearn:0.1.0", "port": 8080, "probePath": "/v2/health/ready"}
    return Target("1a2b3c4d", "rain-r3f9a2c1b", Artifact(uri, DIGEST, "sklearn"), "0123456789abcdef", table)


def test_a_revision_on_a_runtime() -> None:
    spec = {
        "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}},
        "storage": {"secretRef": {"name": "store"}},
    }
    mdep = owner(**spec)
    check(
        "serving/revision.yaml",
        as_yaml([revision_service(mdep, target()), revision_deployment(mdep, target(), 2, STEP)]),
    )


def test_a_drain_of_nodes_takes_one_pod_of_a_revision_at_a_time() -> None:
    service = revision_service(owner(), target())
    service["metadata"]["uid"] = "5e1f"
    check("serving/budget.yaml", as_yaml([revision_budget(service)]))


def test_a_server_that_knows_the_model_by_another_name_is_told_so_and_the_routers_too() -> None:
    plain, named = owner(), owner(model={"name": "rain", "servedName": "Forecast.v2"})
    pod = revision_deployment(named, target(), 1, STEP)["spec"]["template"]["spec"]
    assert pod["containers"][0]["env"][0] == {"name": "PERENNIAL_MODEL_NAME", "value": "Forecast.v2"}
    assert revision_service(named, target())["metadata"]["labels"]["perennial.dev/served-name"] == "Forecast.v2"
    assert "perennial.dev/served-name" not in revision_service(plain, target())["metadata"]["labels"]


def test_a_revision_with_its_own_container_on_gpus() -> None:
    container = {
        "image": "registry/triton:24",
        "args": ["--model-repository=/mnt/models"],
        "env": [{"name": "LEVEL", "value": "1"}],
        "ports": [{"name": "http", "containerPort": 8000}, {"name": "grpc", "containerPort": 8001}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8000}},
    }
    template = {
        "labels": {"team": "a"},
        "nodeSelector": {"gpu": "yes"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "serviceAccountName": "server",
        "envFrom": [{"configMapRef": {"name": "flags"}}],
        "volumes": [{"name": "cache", "emptyDir": {}}],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        "securityContext": {"runAsUser": 1000, "fsGroup": 1000},
    }
    mdep = owner(container=container, resources={"limits": {"nvidia.com/gpu": "1", "memory": "3Gi"}}, template=template)
    own = target("pvc://models/rain/1/", container=container)
    check("serving/own-container.yaml", as_yaml([revision_service(mdep, own), revision_deployment(mdep, own, 1, STEP)]))


def test_the_job_that_sends_sample_inputs() -> None:
    template = {"tolerations": [{"key": "gpu", "operator": "Exists"}], "securityContext": {"runAsUser": 1000}}
    samples = Samples("pvc://models/rain/samples/sha256-5.csv", "sha256:" + "5" * 64)
    mdep = owner(
        model={"name": "rain", "servedName": "forecast"}, storage={"secretRef": {"name": "store"}}, template=template
    )
    asked = replace(target(), samples=samples)
    check("serving/smoke.yaml", as_yaml([smoke_job(mdep, asked, "rain-smoke-00000001-1", 400, 3600, STEP)]))


def test_the_autoscaler_of_stable() -> None:
    check("serving/autoscaler.yaml", as_yaml([autoscaler(owner(), Scaling(1, 6, 70), "1a2b3c4d", 4)]))


def test_the_route_of_gateways() -> None:
    parents = (Parent("edge"), Parent("inner", section="models", port=8443))
    route = GatewayRoute(parents, ("rain.example.org", "*.models.example.org"))
    weights, ports = {"1a2b3c4d": 95, "5e6f7a8b": 5}, {"1a2b3c4d": 8080, "5e6f7a8b": 9000}
    made = http_route(owner(), route, weights, ports)
    check("serving/route.yaml", as_yaml([made]))
    assert weights_of(made) == weights and is_attached(made, made)


def test_gpus_are_never_asked_for_twice_inside_a_revision() -> None:
    gpu = owner(resources={"limits": {"nvidia.com/gpu": "1"}})
    made = revision_deployment(gpu, target(), 1, STEP)["spec"]
    assert made["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    fetch = made["template"]["spec"]["initContainers"][0]
    assert "nvidia.com/gpu" not in str(fetch["resources"])


def test_the_users_container_never_sees_the_stores_credentials() -> None:
    made = revision_deployment(owner(storage={"secretRef": {"name": "store"}}), target(), 1, STEP)
    pod = made["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert "store" not in str(pod["containers"])


def test_a_pod_may_finish_what_it_has_begun() -> None:
    made = revision_deployment(owner(traffic={"timeoutSeconds": 90}), target(), 1, STEP)
    pod = made["spec"]["template"]["spec"]
    assert pod["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 10}}}
    assert pod["terminationGracePeriodSeconds"] >= 100


DOCUMENTED = [
    (name, row)
    for block in re.findall(r"```yaml\n(runtimes:.*?)```", (ROOT / "docs/runtimes.md").read_text(), re.DOTALL)
    for name, row in runtime_table(Settings.model_validate(yaml.safe_load(block))).items()
]


@pytest.mark.parametrize(("name", "row"), DOCUMENTED, ids=[name for name, _ in DOCUMENTED])
def test_a_documented_row_makes_a_server_that_is_told_its_model(name: str, row: dict[str, Any]) -> None:
    resolved = resolve_runtime({}, name, {name: row})
    assert isinstance(resolved, Resolved)
    made = revision_deployment(owner(), target(**resolved.entry), 1, STEP)["spec"]["template"]["spec"]
    (server,) = made["containers"]
    assert server["command"] == row["command"] and server["args"] == row["args"]
    assert {port["name"]: port["containerPort"] for port in server["ports"]} == ports(row)
    assert server["readinessProbe"]["httpGet"] == {"path": row["probePath"], "port": row["port"]}
    assert "$(PERENNIAL_MODEL_NAME)" in " ".join(server["args"])
    assert "PERENNIAL_MODEL_NAME" in [one["name"] for one in server["env"]]
    assert server["volumeMounts"][0]["mountPath"] == "/mnt/models"


def ports(row: dict[str, Any]) -> dict[str, int]:
    """The ports that a row names."""
    return {"http": row["port"], **({"grpc": row["grpcPort"]} if "grpcPort" in row else {})}


def test_a_revision_has_a_second_port_for_grpc_only_where_it_is_named_after_the_first() -> None:
    def served(**entry: Any) -> dict[str, int]:
        made = revision_service(owner(), target(**entry))["spec"]["ports"]
        assert all(port["targetPort"] == port["port"] for port in made)
        return {port["name"]: port["port"] for port in made}

    def named(*names: str | None) -> dict[str, Any]:
        numbers = enumerate(names, start=9000)
        return {
            "container": {"ports": [{"containerPort": n, **({"name": name} if name else {})} for n, name in numbers]}
        }

    assert served() == served(port=8080) == served(container={}) == {"http": 8080}
    assert served(port=8000, grpcPort=8001) == {"http": 8000, "grpc": 8001}
    assert served(**named("web", None, "grpc")) == {"http": 9000, "grpc": 9002}
    assert (
        served(**named("grpc", "http")) == served(**named("web", "metrics")) == served(**named(None)) == {"http": 9000}
    )


def test_the_documented_rows_are_those_of_triton_and_vllm() -> None:
    assert [name for name, _ in DOCUMENTED] == ["triton", "vllm"]
