"""The words of a write-back commit: what was decided, why, by which numbers, and trailers that machines read.

A commit is recognised as ours by its `Perennial-Change` trailers alone. Must not contain a line that people could have
put there to look like a trailer: every value is on one line.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from perennial.domain.sync.outbox import Change

TRAILER = "Perennial-Change"
_WIDTH = 100


def render(changes: Sequence[Change], outcomes: Mapping[str, tuple[str, str]], version: Mapping[str, Any]) -> str:
    """The whole message for one commit. `version`: the spec of the ModelVersion that it is about."""
    first = changes[0]
    superseded = outcomes[first.id][0] == "Superseded" and len(changes) == 1
    body = [_line(change.reason) for change in changes[:1]]
    body += [_line(outcomes[change.id][1]) for change in changes if outcomes[change.id][0] == "Superseded"]
    metrics = _metrics(version)
    parts = [_subject(first, superseded=superseded), _wrapped(body), *([metrics] if metrics else [])]
    return "\n\n".join([*parts, "\n".join(_trailers(changes, version))]) + "\n"


def _subject(change: Change, *, superseded: bool) -> str:
    if change.kind == "Update":
        verb = "Record" if superseded else "Roll out"
        return f"{verb} {change.version} {'for' if superseded else 'to'} {change.deployment}"
    if change.kind == "Revert":
        return f"Revert {change.deployment} to {change.to_version}"
    if change.kind == "Reject":
        return f"Reject {change.version} for {change.deployment}"
    return f"{change.version} serves {change.deployment}"


def _metrics(version: Mapping[str, Any]) -> str:
    """One line a metric, beside the champion's where it was measured."""
    own, champion = version.get("metrics") or {}, version.get("championMetrics") or {}
    lines = []
    for name, value in own.items():
        beside = f" (champion {champion[name]})" if name in champion else ""
        lines.append(_line(f"{name} {value}{beside}"))
    return "\n".join(lines)


def _trailers(changes: Sequence[Change], version: Mapping[str, Any]) -> list[str]:
    lineage = version.get("lineage") or {}
    request = lineage.get("request") or {}
    trigger = " ".join(str(request[key]) for key in ("kind", "policy", "id") if request.get(key))
    pairs: list[tuple[str, Any]] = [(TRAILER, change.id) for change in changes]
    pairs.append(("Model-Version", changes[0].version))
    pairs.append(("Model-Digest", (version.get("artifact") or {}).get("digest")))
    pairs.append(("Training-Job", lineage.get("trainingJob")))
    pairs += [
        ("Dataset-Digest", f"{dataset.get('name')} {dataset['digest']}")
        for dataset in lineage.get("datasets") or ()
        if dataset.get("digest")
    ]
    pairs.append(("Trigger", trigger))
    return [f"{key}: {_line(value)}" for key, value in pairs if value]


def _line(text: Any) -> str:
    return " ".join(str(text).split())


def _wrapped(lines: Sequence[str]) -> str:
    """Lines of at most _WIDTH characters, broken at spaces."""
    result = []
    for line in lines:
        current = ""
        for word in line.split(" "):
            if current and len(current) + 1 + len(word) > _WIDTH:
                result.append(current)
                current = word
            else:
                current = f"{current} {word}" if current else word
        result.append(current)
    return "\n".join(result)
