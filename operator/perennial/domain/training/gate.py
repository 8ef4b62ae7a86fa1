"""The gate: which checks a new version passes, in decimals and in words.

Must not use binary floats: 0.1 + 0.2 is 0.3 here, as the person who wrote the limit expects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

Outcome = Literal["Passed", "Failed", "Skipped"]

_CHAMPION_RULES = ("maxIncrease", "maxDecrease", "minIncrease", "minDecrease")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a gate. observed: what was compared, as decimal text, "" when nothing could be."""

    metric: str
    rule: str
    observed: str
    outcome: Outcome
    note: str = ""

    def as_json(self) -> dict[str, str]:
        """The check as ModelVersion.spec.gate.checks holds it."""
        shown = {"metric": self.metric, "rule": self.rule, "outcome": self.outcome}
        if self.observed:
            shown["observed"] = self.observed
        if self.note:
            shown["note"] = self.note
        return shown


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured. trained: metrics that train wrote; evaluated: that evaluate wrote for the candidate;
    champion: that evaluate wrote for the champion, None when that evaluation failed; champion_name: "" when there is
    no champion; champion_note: why `champion` is None."""

    trained: Mapping[str, str]
    evaluated: Mapping[str, str]
    champion: Mapping[str, str] | None = None
    champion_name: str = ""
    champion_note: str = ""

    @property
    def metrics(self) -> dict[str, str]:
        """The version's metrics: evaluate's word, being about held-out data, stands over train's."""
        return {**self.trained, **self.evaluated}


def decimal(text: Any) -> Decimal | None:
    """The finite decimal of a text or number, or None."""
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _written(metrics: Mapping[str, str]) -> str:
    return "written were: " + ", ".join(sorted(metrics)[:20]) if metrics else "no metric was written"


def _absolute(entry: Mapping[str, Any], measured: Measured) -> Check:
    name = str(entry["metric"])
    kind = "min" if entry.get("min") is not None else "max"
    limit = decimal(entry.get(kind))
    rule = f"{kind} {entry.get(kind)}"
    value = decimal(measured.metrics.get(name))
    if value is None:
        return Check(name, rule, "", "Failed", f"{name} was not written; {_written(measured.metrics)}")
    if limit is None:
        return Check(name, rule, str(value), "Failed", f"the limit {entry.get(kind)!r} is not a decimal number")
    held = value >= limit if kind == "min" else value <= limit
    word = "below the least allowed" if kind == "min" else "above the most allowed"
    return Check(name, rule, str(value), "Passed" if held else "Failed", "" if held else f"{value} is {word} {limit}")


def _versus_champion(entry: Mapping[str, Any], measured: Measured) -> Check:
    name = str(entry["metric"])
    kind = next((rule for rule in _CHAMPION_RULES if entry["champion"].get(rule) is not None), "")
    limit = decimal(entry["champion"].get(kind))
    rule = f"champion {kind} {entry['champion'].get(kind)}"
    value = decimal(measured.evaluated.get(name))
    if not measured.champion_name:
        return Check(name, rule, "" if value is None else str(value), "Skipped", "there is no champion to compare with")
    if value is None:
        return Check(name, rule, "", "Failed", f"evaluate did not write {name}; {_written(measured.evaluated)}")
    if measured.champion is None:
        return Check(name, rule, str(value), "Failed", measured.champion_note or "the champion could not be evaluated")
    other = decimal(measured.champion.get(name))
    if other is None:
        note = f"evaluate did not write {name} for {measured.champion_name}; {_written(measured.champion)}"
        return Check(name, rule, str(value), "Failed", note)
    if limit is None:
        return Check(name, rule, str(value), "Failed", f"the limit of {rule!r} is not a decimal number")
    change = value - other if kind.endswith("Increase") else other - value
    held = change <= limit if kind.startswith("max") else change >= limit
    note = f"{value} against {other} of {measured.champion_name}"
    return Check(name, rule, str(value), "Passed" if held else "Failed", note)


def checks(gate: Sequence[Mapping[str, Any]], measured: Measured) -> list[Check]:
    """One Check per gate entry, in the order of the spec."""
    return [_versus_champion(e, measured) if e.get("champion") else _absolute(e, measured) for e in gate]


def passed(results: Sequence[Check]) -> bool:
    """Whether the gate holds: at least one check and none failed. `gate: []` never passes (it is NoGate)."""
    return bool(results) and all(check.outcome != "Failed" for check in results)


def summary(results: Sequence[Mapping[str, Any]]) -> str:
    """One sentence for people about the checks of a ModelVersion (spec.gate.checks): why the gate fails, or holds."""
    if not results:
        return "the gate has no check, so the version is recorded but never proposed"
    failed = [check for check in results if check["outcome"] == "Failed"]
    if failed:
        words = "; ".join(f"{check['metric']} ({check['rule']}): {check.get('note', '')}" for check in failed)
        return f"the gate does not hold: {words}"
    skipped = sum(check["outcome"] == "Skipped" for check in results)
    tail = f", {skipped} skipped because there was no champion" if skipped else ""
    return f"the gate holds ({len(results)} check{'s' if len(results) != 1 else ''}{tail})"


def needs_champion(spec: Mapping[str, Any]) -> bool:
    """Whether the gate of a TrainingJob spec compares with a champion."""
    return any(entry.get("champion") for entry in spec.get("gate") or ())
