"""Committed expectations: compare a text with a file; PERENNIAL_REFRESH_GOLDEN=1 writes the file instead."""

import os
from pathlib import Path
from typing import Any

import yaml

GOLDEN = Path(__file__).parents[1] / "golden"


class _Plain(yaml.SafeDumper):
    """Writes equal parts out each time: the project's own reader refuses aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_yaml(objects: list[dict[str, Any]]) -> str:
    """Objects as one YAML text, keys in the order in which they were built."""
    return yaml.dump_all(objects, Dumper=_Plain, sort_keys=False, width=120, default_flow_style=False)


def check(name: str, text: str) -> None:
    """The file tests/golden/`name` holds exactly `text`, byte for byte."""
    path = GOLDEN / name
    if os.environ.get("PERENNIAL_REFRESH_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} does not exist; run once with PERENNIAL_REFRESH_GOLDEN=1 and look at it"
    assert path.read_text() == text
