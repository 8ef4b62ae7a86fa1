"""What a revision is: the hash of what runs, and the hash of what was asked for. Must not render pods.

Both hashes are over canonical JSON of user-set fields with a recipe tag, never over decoded objects: a newer operator
or runtime table changes no hash of what exists. A revision is found again by what was asked for (fingerprint), with
the recipe that it was made with; only when none matches is the runtime resolved anew.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.domain.decision import JsonObject

RECIPE = "1"
"""The recipe of new revisions. A change of what is hashed gets a new tag; old tags stay below for ever."""

_SHAPING = ("container", "resources", "runtime", "sharedMemory", "storage", "template")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A runtime entry chosen for a spec; `entry` is plain JSON: image, args, port, probe path or a whole container."""

    entry: JsonObject


@dataclass(frozen=True, slots=True)
class Unresolvable:
    """No runtime serves this spec; the message says what is allowed."""

    reason: str
    message: str


def resolve_runtime(
    spec: Mapping[str, Any], artifact_format: str, runtimes: Mapping[str, Mapping[str, Any]]
) -> Resolved | Unresolvable:
    """The server that a ModelDeployment's spec asks for: its own container, the named runtime, or one by format.

    runtimes: the operator's table, name -> {formats, image, args, port, grpcPort, probePath, ...}.
    """
    if spec.get("container"):
        return Resolved({"container": spec["container"]})
    known = ", ".join(sorted(runtimes)) or "none"
    wanted = spec.get("runtime")
    if wanted is not None:
        if wanted not in runtimes:
            return Unresolvable(
                "UnknownRuntime",
                f'spec.runtime "{wanted}" is not in the operator\'s runtime table (known: {known}): '
                "name one of these, or set spec.container.",
            )
        return Resolved(_entry(runtimes[wanted]))
    fitting = sorted(name for name, entry in runtimes.items() if artifact_format in entry.get("formats", ()))
    if not fitting:
        return Unresolvable(
            "UnknownFormat",
            f'No runtime serves artifacts of format "{artifact_format}" (known runtimes: {known}): '
            "name one in spec.runtime, or set spec.container.",
        )
    return Resolved(_entry(runtimes[fitting[0]]))


def fingerprint(spec: Mapping[str, Any], digest: str, *, recipe: str = RECIPE) -> str | None:
    """16 hex of what was asked for; None for a recipe that this operator does not know."""
    make = _RECIPES.get(recipe)
    return make(spec, digest) if make is not None else None


def revision_hash(spec: Mapping[str, Any], digest: str, entry: Mapping[str, Any]) -> str:
    """8 hex of what runs: artifact digest, resolved runtime entry, resources, template."""
    parts = {key: value for key, value in _asked(spec).items() if key not in ("runtime", "container")}
    return _hash({"recipe": RECIPE, "digest": digest, "entry": entry, "spec": parts})[:8]


def served_name(spec: Mapping[str, Any]) -> str | None:
    """The model's name at its server, where a ModelDeployment's spec sets one of its own."""
    name: str | None = (spec.get("model") or {}).get("servedName")
    return name


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _entry(entry: Mapping[str, Any]) -> JsonObject:
    return {key: value for key, value in entry.items() if key != "formats" and value not in (None, [], {}, ())}


def _asked(spec: Mapping[str, Any]) -> JsonObject:
    """What a spec says of the pods. A field that is newer than recipe 1 counts only where it is set."""
    parts = {key: spec[key] for key in _SHAPING if spec.get(key)}
    served = served_name(spec)
    return {**parts, "servedName": served} if served else parts


def _first_recipe(spec: Mapping[str, Any], digest: str) -> str:
    return _hash({"recipe": "1", "digest": digest, "spec": _asked(spec)})[:16]


_RECIPES: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {"1": _first_recipe}


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()
