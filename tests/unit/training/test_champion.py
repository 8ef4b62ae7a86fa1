"""Which version is the champion; an answer that is not certain is never a guess."""

from typing import Any

import pytest

from perennial.domain.training.champion import choose

SPEC = {"model": "rain"}
VERSIONS = {
    name: {"spec": {"artifact": {"uri": f"s3://b/{name}/", "digest": f"sha256:{name}"}}} for name in ("v1", "v2", "v3")
}


def deployment(name: str = "d", model: str = "rain", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"model": {"name": model, **more.get("model_fields", {})}},
        "status": more.get("status", {}),
    }


@pytest.mark.parametrize(
    ("deployments", "state", "version"),
    [
        ([], "None", ""),
        ([deployment(model="snow", model_fields={"version": "v1"})], "None", ""),
        ([deployment()], "None", ""),
        ([deployment(model_fields={"version": "v1"})], "Known", "v1"),
        ([deployment(model_fields={"version": "v1"}, status={"stable": {"version": "v2"}})], "Known", "v2"),
        ([deployment(status={"chosenVersion": "v3"})], "Known", "v3"),
        ([deployment(model_fields={"version": "absent"})], "Unknown", ""),
        ([deployment("a"), deployment("b")], "Ambiguous", ""),
    ],
)
def test_choice(deployments: list[dict[str, Any]], state: str, version: str) -> None:
    found = choose(SPEC, deployments, VERSIONS)
    assert (found.state, found.version) == (state, version)
    assert state in ("Known", "None") or found.message


def test_the_named_deployment_decides_whatever_others_there_are() -> None:
    spec = {**SPEC, "champion": {"deploymentRef": {"name": "b"}}}
    several = [deployment("a", model_fields={"version": "v1"}), deployment("b", model_fields={"version": "v2"})]
    assert choose(spec, several, VERSIONS).version == "v2"
    gone = choose(spec, several[:1], VERSIONS)
    assert gone.state == "Unknown"
    assert "ModelDeployment b" in gone.message


def test_a_model_trained_elsewhere_can_be_the_champion() -> None:
    artifact = {"uri": "s3://b/x/", "digest": "sha256:x"}
    found = choose(SPEC, [deployment(model_fields={"artifact": artifact})], VERSIONS)
    assert (found.state, found.version, found.digest, found.uri) == ("Known", "", "sha256:x", "s3://b/x/")
