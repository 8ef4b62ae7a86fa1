"""From a run's record and the operator's own observations to the facts of a ModelVersion.

What the operator knows by itself (image digest, commit, times, run) is never taken from the pod. Must not read a clock:
all times are those that the cluster recorded, so that the same run always gives the same version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.domain.training import gate
from perennial.domain.training.record import Record


@dataclass(frozen=True, slots=True)
class Observed:
    """What the operator saw of a run. image: with digest when known; champion: {version, digest} or empty."""

    training_job: str
    run: str
    request: Mapping[str, Any]
    commit: str
    image: str
    started: str
    finished: str
    champion: Mapping[str, Any]


def champion_label(champion: Mapping[str, Any]) -> str:
    """How checks and messages call the champion; "" when there is none."""
    version = str(champion.get("version") or "")
    digest = str(champion.get("digest") or "")
    return version or (f"the artifact {digest[:19]}" if digest else "")


def measured(record: Record, champion: Mapping[str, Any]) -> gate.Measured:
    """The record's metrics as the gate takes them."""
    return gate.Measured(
        trained=record.metrics,
        evaluated=record.evaluated,
        champion=record.champion,
        champion_name=champion_label(champion),
        champion_note=record.champion_note,
    )


def _present(**members: Any) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value not in (None, "", {}, [], ())}


def lineage(spec: Mapping[str, Any], record: Record, seen: Observed) -> dict[str, Any]:
    """ModelVersion.spec.lineage."""
    return _present(
        trainingJob=seen.training_job,
        run=seen.run,
        request=seen.request,
        commit=seen.commit,
        image=seen.image,
        datasets=[{key: d[key] for key in ("name", "uri", "digest") if key in d} for d in record.datasets],
        base=_base(spec, record),
        hyperparameters=dict(spec.get("hyperparameters") or {}),
        seed=int((spec.get("reproducibility") or {}).get("seed", 0)),
        startedTime=seen.started,
        finishedTime=seen.finished,
    )


def _base(spec: Mapping[str, Any], record: Record) -> dict[str, Any] | None:
    base = spec.get("base")
    if not base or record.base is None:
        return None
    return _present(version=base.get("version"), uri=record.base.get("uri"), digest=record.base.get("digest"))


def version_spec(spec: Mapping[str, Any], record: Record, seen: Observed) -> dict[str, Any]:
    """ModelVersion.spec: artifact, metrics, gate, lineage, samples, baseline."""
    facts = measured(record, seen.champion)
    results = gate.checks(spec.get("gate") or (), facts)
    artifact = {key: record.artifact[key] for key in ("uri", "digest", "sizeBytes", "format") if key in record.artifact}
    made: dict[str, Any] = {
        "model": spec["model"],
        "artifact": artifact,
        "gate": {"passed": gate.passed(results), "checks": [check.as_json() for check in results]},
        "lineage": lineage(spec, record, seen),
    }
    if facts.metrics:
        made["metrics"] = facts.metrics
    if record.champion:
        made["championMetrics"] = dict(record.champion)
    if record.samples:
        made["samples"] = dict(record.samples)
    if record.baseline:
        made["baseline"] = dict(record.baseline)
    return made
