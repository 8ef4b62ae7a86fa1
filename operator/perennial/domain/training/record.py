"""The record of a run as step publish writes it: reading it strictly.

The record comes out of a pod in which a user's code ran before, so it is hostile until checked: sizes, depth, names
and numbers are bounded, and its digest must be the one of the termination message. Must not evaluate or log it raw.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.domain.training.gate import decimal
from perennial.domain.training.run import canonical_json

RECORD_VERSION = 1
MAX_RECORD_BYTES = 240 * 1024
"""A ModelVersion may hold 256 KiB (design/api.md); the rest of it needs the difference."""
MAX_METRICS = 64
MAX_DATASETS = 16

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_METRIC = re.compile(r"[A-Za-z_][-A-Za-z0-9_.:/]{0,63}\Z")
_MAX_DEPTH = 8


class BadRecord(ValueError):
    """The record or message is not what step publish writes; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The termination message of step publish."""

    version: str
    artifact_digest: str
    size_bytes: int
    record_digest: str


@dataclass(frozen=True, slots=True)
class Record:
    """The whole record. datasets: [{name, uri, digest, sizeBytes}]; champion None: it was not (or badly) evaluated;
    samples: {uri, digest, rows} of the sample inputs, where there are any."""

    artifact: Mapping[str, Any]
    metrics: Mapping[str, str]
    evaluated: Mapping[str, str]
    champion: Mapping[str, str] | None
    champion_note: str
    datasets: tuple[Mapping[str, Any], ...]
    base: Mapping[str, Any] | None
    baseline: Mapping[str, Any] | None
    samples: Mapping[str, Any] | None
    digest: str


def digest_of(line: str) -> str:
    """`sha256:<hex>` of a record line (without its newline)."""
    return "sha256:" + hashlib.sha256(line.encode()).hexdigest()


def record_line(value: Mapping[str, Any]) -> str:
    """The record as the one line that is logged and stored."""
    return canonical_json(value)


def _refuse_constant(text: str) -> Any:
    raise BadRecord(f"the record holds {text}, which is no JSON number")


def _depth(value: Any, level: int = 0) -> int:
    if level > _MAX_DEPTH:
        raise BadRecord(f"the record is nested deeper than {_MAX_DEPTH}")
    if isinstance(value, dict):
        return max((_depth(item, level + 1) for item in value.values()), default=level)
    if isinstance(value, list):
        return max((_depth(item, level + 1) for item in value), default=level)
    return level


def _load(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadRecord("the record is not JSON") from error
    if not isinstance(value, dict):
        raise BadRecord("the record is no JSON object")
    _depth(value)
    return value


def parse_summary(message: str) -> Summary:
    """The termination message of publish; BadRecord when it is none."""
    value = _load(message)
    digest, record = value.get("artifact"), value.get("record")
    size = value.get("size")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise BadRecord("the message of publish names no artifact digest")
    if not isinstance(record, str) or not _DIGEST.match(record):
        raise BadRecord("the message of publish names no record digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadRecord("the message of publish names no size")
    return Summary(str(value.get("version", ""))[:64], digest, size, record)


def find_line(log: str, digest: str) -> str | None:
    """The line of a container's log whose digest is `digest`; None when there is none."""
    return next(
        (line for line in reversed(log.splitlines()) if line.startswith("{") and digest_of(line) == digest), None
    )


def metrics_of(value: Any, what: str) -> dict[str, str]:
    """Checked metrics {name: decimal text}; BadRecord says which is wrong."""
    if not isinstance(value, dict) or len(value) > MAX_METRICS:
        raise BadRecord(f"{what} must be at most {MAX_METRICS} names with numbers")
    checked = {}
    for name, number in value.items():
        if not _METRIC.match(name):
            raise BadRecord(f"{what} holds a name that is not allowed: {name[:40]!r}")
        if not isinstance(number, str) or len(number) > 32 or decimal(number) is None:
            raise BadRecord(f"{what}: {name} is not a finite decimal")
        checked[name] = number
    return checked


def parse_record(line: str, *, output_uri: str) -> Record:
    """The record of one log line. output_uri: the run's own spec.output.uri, under which the artifact must lie."""
    if len(line.encode()) > MAX_RECORD_BYTES:
        raise BadRecord(f"the record is larger than {MAX_RECORD_BYTES} bytes; leave features out with baseline.exclude")
    value = _load(line)
    artifact = value.get("artifact")
    if not isinstance(artifact, dict) or not _DIGEST.match(str(artifact.get("digest", ""))):
        raise BadRecord("the record names no artifact digest")
    if not isinstance(artifact.get("sizeBytes"), int) or not isinstance(artifact.get("format"), str):
        raise BadRecord("the record names no size or format of its artifact")
    _lies_under(artifact.get("uri"), output_uri, "artifact does")
    champion = value.get("champion")
    return Record(
        artifact=artifact,
        metrics=metrics_of(value.get("metrics") or {}, "metrics.json"),
        evaluated=metrics_of(value.get("evaluated") or {}, "the metrics of evaluate"),
        champion=None if champion is None else metrics_of(champion, "the champion's metrics"),
        champion_note=str(value.get("championNote") or "")[:500],
        datasets=_datasets(value.get("datasets") or []),
        base=value.get("base") if isinstance(value.get("base"), dict) else None,
        baseline=value.get("baseline") if isinstance(value.get("baseline"), dict) else None,
        samples=_samples(value.get("samples"), output_uri),
        digest=digest_of(line),
    )


def _lies_under(uri: Any, output_uri: str, what: str) -> None:
    if not str(uri or "").startswith(output_uri.rstrip("/") + "/") or "/../" in str(uri):
        raise BadRecord(f"the record's {what} not lie under {output_uri}")


def _samples(item: Any, output_uri: str) -> Mapping[str, Any] | None:
    if item is None:
        return None
    if (
        not isinstance(item, dict)
        or not _DIGEST.match(str(item.get("digest", "")))
        or type(item.get("rows")) is not int
    ):
        raise BadRecord("the record holds sample inputs without a digest or a number of rows")
    _lies_under(item.get("uri"), output_uri, "sample inputs do")
    return {key: item[key] for key in ("uri", "digest", "rows")}


def _datasets(items: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(items, list) or len(items) > MAX_DATASETS:
        raise BadRecord(f"the record must list at most {MAX_DATASETS} datasets")
    return tuple(_dataset(item) for item in items)


def _dataset(item: Any) -> Mapping[str, Any]:
    if not isinstance(item, dict) or not _DIGEST.match(str(item.get("digest", ""))):
        raise BadRecord("the record holds a dataset without a digest")
    if not isinstance(item.get("name"), str) or not isinstance(item.get("uri"), str):
        raise BadRecord("the record holds a dataset without a name or address")
    return {key: item[key] for key in ("name", "uri", "digest", "sizeBytes") if key in item}


def parse_resolution(line: str) -> tuple[Mapping[str, Any], ...]:
    """The datasets that step fetch resolved, from its log line; BadRecord when it is none."""
    value = _load(line)
    return _datasets(value.get("datasets"))
