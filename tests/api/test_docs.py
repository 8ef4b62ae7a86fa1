"""Every object of ours in the documentation and the samples is one that the API server accepts."""

import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial.api.crdgen import ROOT
from perennial.api.kinds import GROUP, find
from tests.api.server import ApiServer, path_of

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DEMO = sorted((ROOT / "examples").rglob("*.yaml"))
MANIFESTS = [*sorted((ROOT / "manifests").rglob("*.yaml")), *DEMO]
PLACEHOLDERS = {"WINDOW": "8", "NAMESPACE": "team", "RAIN_IMAGE": "registry/rain:1", "TRAIN_LIMITS": '{cpu: "1"}'}
"""What the demo fills into its manifests."""


def written_objects() -> Iterator[Any]:
    for page in PAGES:
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)):
            yield from _ours(page, block, f"block {number + 1} ")
    for manifest in MANIFESTS:
        yield from _ours(manifest, manifest.read_text(encoding="utf-8"), "")


def _ours(path: Path, text: str, where: str) -> Iterator[Any]:
    filled = string.Template(text).substitute(PLACEHOLDERS) if path in DEMO else text
    for whole in yaml.safe_load_all(filled):
        if isinstance(whole, dict) and str(whole.get("apiVersion", "")).startswith(f"{GROUP}/"):
            label = f"{path.relative_to(ROOT)} {where}{whole['kind']}/{whole['metadata']['name']}"
            yield pytest.param(whole, id=label)


OBJECTS = list(written_objects())


@pytest.mark.parametrize("whole", OBJECTS)
def test_the_object_is_accepted(api_server: ApiServer, namespace: str, whole: dict[str, Any]):
    kind = find(whole["apiVersion"], whole["kind"])
    assert kind is not None
    moved = {**whole, "metadata": {**whole["metadata"], "namespace": namespace}}
    api_server.request("POST", path_of(kind, namespace), moved, dryRun="All", fieldValidation="Strict")


def test_each_kind_has_a_page_with_an_example():
    pages = {parameter.id.split()[0] for parameter in OBJECTS}
    for name in ("gitsync", "trainingjob", "modelversion", "modeldeployment", "driftpolicy"):
        assert f"docs/spec/{name}.md" in pages
