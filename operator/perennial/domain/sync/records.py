"""The records of a ModelVersion beside its facts: proposed, served, rejections. Reading them and changing a spec's.

Each `add_*` and `close_*` changes the given spec in place, does nothing when it is done already, and is used both on
parsed documents and on ruamel's (which keep comments). Must not know where a document lies.
"""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from perennial.domain.times import parse_time

Spec = dict[str, Any]
_ORDER = (
    "model",
    "artifact",
    "metrics",
    "championMetrics",
    "gate",
    "lineage",
    "samples",
    "proposed",
    "served",
    "rejections",
)
_OLDEST = datetime.min.replace(tzinfo=UTC)


def is_readable(spec: Any) -> bool:
    """Whether a document's spec has the shape of a ModelVersion's, as far as anything here reads it.

    The API server names what is wrong with one that has not; until it is corrected it must not stop other decisions.
    """
    if not isinstance(spec, Mapping):
        return False
    parts = [spec.get(key) or {} for key in ("artifact", "metrics", "championMetrics", "gate", "lineage")]
    if not all(isinstance(part, Mapping) for part in parts):
        return False
    lists = [spec.get(key) or [] for key in ("proposed", "served", "rejections")]
    lineage = parts[-1]
    lists.append(lineage.get("datasets") or [])
    if not all(isinstance(found, list) and all(isinstance(item, Mapping) for item in found) for found in lists):
        return False
    return isinstance(lineage.get("request") or {}, Mapping) and _is_time(lineage.get("finishedTime"))


def _is_time(text: Any) -> bool:
    try:
        return text is None or bool(parse_time(text))
    except (TypeError, ValueError):
        return False


def entries(spec: Mapping[str, Any], record: str, deployment: str) -> list[Mapping[str, Any]]:
    """The entries of a record list for one deployment."""
    return [entry for entry in spec.get(record) or () if entry.get("deployment") == deployment]


def open_served(spec: Mapping[str, Any], deployment: str) -> Mapping[str, Any] | None:
    """The served entry that says that the version serves this deployment now."""
    return next((entry for entry in entries(spec, "served", deployment) if not entry.get("toTime")), None)


def is_accepted(spec: Mapping[str, Any]) -> bool:
    """Whether the gate passed, with at least one check."""
    gate = spec.get("gate") or {}
    return bool(gate.get("passed")) and len(gate.get("checks") or ()) > 0


def finished(spec: Mapping[str, Any]) -> datetime:
    """When its run finished; without that a version is older than any other."""
    text = (spec.get("lineage") or {}).get("finishedTime")
    return parse_time(text) if text else _OLDEST


def add_proposed(spec: Spec, deployment: str, time: str) -> None:
    """Note that the version was proposed to a deployment."""
    if not entries(spec, "proposed", deployment):
        _record(spec, "proposed").append({"deployment": deployment, "time": time})


def add_served(spec: Spec, deployment: str, entry: Mapping[str, Any]) -> None:
    """Note that the version began to serve."""
    if open_served(spec, deployment) is None:
        _record(spec, "served").append({"deployment": deployment, **entry})


def close_served(spec: Spec, deployment: str, time: str) -> None:
    """Note that another version took over."""
    for entry in spec.get("served") or ():
        if entry.get("deployment") == deployment and not entry.get("toTime"):
            entry["toTime"] = time


def add_rejection(spec: Spec, deployment: str, entry: Mapping[str, Any]) -> None:
    """Note that the version failed in a deployment; a later failure replaces an earlier one."""
    wanted = {"deployment": deployment, **entry}
    found = _record(spec, "rejections")
    for number, old in enumerate(found):
        if old.get("deployment") == deployment:
            if dict(old) != wanted:
                found[number] = wanted
            return
    found.append(wanted)


def _record(spec: Spec, name: str) -> list[Any]:
    """The record list, made when it is absent: before the long baseline where the mapping lets us choose (ruamel)."""
    if name not in spec:
        if "baseline" in spec and hasattr(spec, "insert"):
            spec.insert(list(spec).index("baseline"), name, [])
        else:
            spec[name] = []
    found: list[Any] = spec[name]
    return found


def document_of(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The document that Git keeps of a ModelVersion object: what a person would write, and nothing of this cluster."""
    spec = obj["spec"]
    ordered = [
        *(key for key in _ORDER if key in spec),
        *(key for key in spec if key not in _ORDER and key != "baseline"),
    ]
    if "baseline" in spec:
        ordered.append("baseline")
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {"name": obj["metadata"]["name"]},
        "spec": {key: copy.deepcopy(spec[key]) for key in ordered},
    }
