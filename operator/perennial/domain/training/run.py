"""What a run is: its identity (a hash of the fields that shape it) and the names made from that identity.

Must not read a clock or a cluster. The recipe tag names how the hash is made; a recorded run keeps the recipe it was
made with, so that a newer operator with another recipe does not take an old run for a new one.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHAPING_FIELDS = (
    "model", "image", "command", "args", "env", "hyperparameters", "datasets", "base", "nodes", "processesPerNode",
    "resources", "sharedMemory", "template", "validate", "evaluate", "output", "champion", "gate", "reproducibility",
    "request",
)  # fmt: skip

_DEFAULTS: Mapping[str, Any] = {
    "nodes": 1,
    "processesPerNode": 1,
    "reproducibility": {"seed": 0, "deterministic": False},
    "datasets": {"use": "Train"},
}
"""Defaults by field; for a mapping or a list of mappings, the defaults of its members. They mirror the schema's."""

_STRUCTURED = ("base", "validate", "evaluate", "output", "champion", "reproducibility")
"""Fields with a closed schema: their empty members mean the same as absent ones. `template` is free-form: kept."""


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The identity of a run. id: 8 hex; spec_hash: 64 hex of which the id is the start; recipe: how it was hashed."""

    id: str
    spec_hash: str
    recipe: str


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _is_empty(value: Any) -> bool:
    return value is None or value == {} or value == [] or value == ""


def _without_defaults(value: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if not _is_empty(item) and defaults.get(key) != item}


def _quantities_as_text(resources: Mapping[str, Any]) -> dict[str, Any]:
    """`cpu: 1` and `cpu: "1"` ask for the same."""
    return {
        part: {name: str(quantity) for name, quantity in amounts.items()} if isinstance(amounts, Mapping) else amounts
        for part, amounts in resources.items()
        if not _is_empty(amounts)
    }


def shaping_fields(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The run-shaping fields of a TrainingJob spec that differ from their defaults (recipe r1).

    Of `request` only its id counts: the other members say why it was asked for, and a corrected reason is no new run.
    """
    shaped: dict[str, Any] = {}
    for field in SHAPING_FIELDS:
        value = spec.get(field)
        default = _DEFAULTS.get(field)
        if field == "request":
            value = (value or {}).get("id")
        elif field == "datasets":
            value = [_without_defaults(item, _DEFAULTS["datasets"]) for item in value or ()]
        elif field == "resources":
            value = _quantities_as_text(value or {})
        elif field in _STRUCTURED:
            value = _without_defaults(value or {}, default or {})
        if not _is_empty(value) and value != default:
            shaped[field] = value
    return shaped


def _hash_r1(spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(shaping_fields(spec)).encode()).hexdigest()


RECIPES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"r1": _hash_r1}
"""Every recipe that ever made a run id, newest first. Never remove one: recorded runs need it."""


def identity(spec: Mapping[str, Any], recipe: str | None = None) -> RunIdentity:
    """The identity that `spec` gives a run by `recipe` (the newest when None or unknown)."""
    tag = recipe if recipe is not None and recipe in RECIPES else next(iter(RECIPES))
    spec_hash = RECIPES[tag](spec)
    return RunIdentity(spec_hash[:8], spec_hash, tag)


def identities(spec: Mapping[str, Any]) -> Sequence[RunIdentity]:
    """The identities by every known recipe, newest first: a version made under an older recipe is found too."""
    return [identity(spec, recipe) for recipe in RECIPES]


def version_name(model: str, run_id: str) -> str:
    """The ModelVersion that a run makes."""
    return f"{model}-r{run_id}"


def job_name(training_job: str, run_id: str, attempt: int, stage: str = "") -> str:
    """The Job (and, for several nodes, headless Service) of an attempt; `stage` is fetch, train, publish or report."""
    return f"{training_job}-run-{run_id}-{attempt}" + (f"-{stage}" if stage else "")
