"""The overlay of docs/operations.md is one that kustomize builds and the operator starts with."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.binaries import binary
from localcluster.shell import run
from perennial.api.crdgen import ROOT
from perennial.app.own_image import CONTAINER
from perennial.app.settings import load

BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.DOTALL)
OVERLAY: dict[str, Any] = next(o for o in map(yaml.safe_load, BLOCKS) if o.get("kind") == "Kustomization")


@pytest.fixture
def built() -> list[dict[str, Any]]:
    """What `kubectl apply -k` of the overlay would send."""
    folder = ROOT / "build" / "operations-overlay"
    folder.mkdir(parents=True, exist_ok=True)
    overlay = {**OVERLAY, "resources": ["../../manifests"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return list(yaml.safe_load_all(run([binary("kubectl"), "kustomize", folder])))


def test_one_entry_of_images_says_what_the_operator_and_so_all_of_perennial_runs_from(
    built: list[dict[str, Any]],
) -> None:
    deployment = next(o for o in built if o["kind"] == "Deployment")
    containers = {c["name"]: c for c in deployment["spec"]["template"]["spec"]["containers"]}
    entry = OVERLAY["images"][0]
    assert containers[CONTAINER]["image"] == f"{entry['newName']}:{entry['newTag']}"
    assert "PERENNIAL_IMAGE" not in {variable["name"] for variable in containers[CONTAINER]["env"]}


def test_the_settings_in_it_are_ones_that_the_operator_takes(built: list[dict[str, Any]], tmp_path: Path) -> None:
    config = next(o for o in built if (o["kind"], o["metadata"]["name"]) == ("ConfigMap", "perennial-config"))
    path = tmp_path / "config.yaml"
    path.write_text(config["data"]["config.yaml"])
    settings = load(str(path), {})
    assert settings.image is None
    assert settings.image_pull_secrets == ["registry"]
    assert {row.image for row in settings.runtimes.values()} == {"registry.example.com/perennial-runtime:0.1.0"}


def test_definitions_come_before_what_needs_them(built: list[dict[str, Any]]) -> None:
    order = [whole["kind"] for whole in built]
    assert order.index("CustomResourceDefinition") < order.index("Deployment")
