"""What was counted in a rollout, and the reading of routers' counters into it exactly once.

Evidence is plain integers and lives in status.rollout.evidence together with each router's cursor, so one status write
moves both: a killed operator neither loses nor doubles a request. Must not judge.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from typing import Any

from perennial.domain.decision import JsonObject
from perennial.domain.rollout.failures import NOTHING, Arm
from perennial.domain.rollout.predictions import NO_PREDICTIONS, Pair, pair_from_status, pair_to_status
from perennial.domain.times import parse_time, rfc3339


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted at one weight (percent to the canary): both arms, and the milliseconds of counted time."""

    weight: int
    milliseconds: int = 0
    canary: Arm = NOTHING
    stable: Arm = NOTHING
    predictions: Pair = NO_PREDICTIONS

    @property
    def concurrent(self) -> bool:
        """Whether stable answered anything in the same stretches: only then are the arms comparable."""
        return self.stable.requests > 0

    @property
    def failures(self) -> int:
        """Failed canary requests, client errors among them when there is a stable arm to compare with."""
        return self.canary.failed(with_client_errors=self.concurrent)

    @property
    def stable_failures(self) -> int:
        """Failed concurrent stable requests by the same measure."""
        return self.stable.failed(with_client_errors=self.concurrent)


@dataclass(frozen=True, slots=True)
class Reading:
    """One router's counters at one look. started: (agent, Envoy) start times: other values mean other counters.

    predictions: only while they are compared.
    confirmed: the router's Envoy itself reports the weights of `traffic_version`.
    """

    pod_uid: str
    started: tuple[str, str]
    traffic_version: int
    confirmed: bool
    canary: Arm
    stable: Arm
    predictions: Pair | None = None

    def begins(self, traffic_version: int) -> bool:
        """Whether a stretch that counts for these weights may begin with it."""
        return self.confirmed and self.traffic_version == traffic_version


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything counted since the canary's first counted request: a tally per weight, and each router's cursor."""

    tallies: tuple[Tally, ...] = ()
    cursors: tuple[Reading, ...] = ()
    looked: datetime | None = None
    codes: str = ""

    def tally(self, weight: int) -> Tally:
        """The tally of one weight, empty when nothing was counted there yet."""
        return next((tally for tally in self.tallies if tally.weight == weight), Tally(weight))

    def look(
        self,
        readings: Sequence[Reading],
        *,
        weight: int,
        traffic_version: int,
        counts_from: datetime | None,
        now: datetime,
        codes: frozenset[str],
    ) -> "Evidence":
        """The evidence after one look at the routers.

        A stretch counts for a router when both its ends show the same counters with confirmed weights of this
        `traffic_version`, and it begins at or after `counts_from` (end of the warm-up; None: nothing counts yet). The
        stretch of a router that is not read goes on until it is.
        """
        names = ",".join(sorted(codes))
        warm = counts_from is not None and self.looked is not None and self.looked >= counts_from
        known = {cursor.pod_uid: cursor for cursor in self.cursors} if warm and names == self.codes else {}
        canary, stable, counted = Arm(), Arm(), False
        predictions = self.tally(weight).predictions
        for reading in readings:
            before = known.get(reading.pod_uid)
            if before is None or not _same_stretch(before, reading, traffic_version):
                continue
            difference = (reading.canary - before.canary, reading.stable - before.stable)
            if difference[0].negative or difference[1].negative:
                continue
            canary, stable, counted = canary + difference[0], stable + difference[1], True
            if reading.predictions is not None and before.predictions is not None:
                predictions = predictions.plus(reading.predictions.since(before.predictions))
        tallies = self.tallies if names == self.codes else ()
        if counted and self.looked is not None:
            elapsed = round((now - self.looked).total_seconds() * 1000)
            before_this = replace(self.tally(weight), predictions=predictions)
            tallies = self._with(before_this, canary, stable, elapsed)
        read = {reading.pod_uid for reading in readings}
        unread = (cursor for uid, cursor in known.items() if uid not in read and cursor.begins(traffic_version))
        return Evidence(tallies, (*readings, *unread), now, names)

    def of_routers(self, pod_uids: Collection[str]) -> "Evidence":
        """The same evidence with the stretches of these routers only: those of all others end uncounted."""
        return replace(self, cursors=tuple(cursor for cursor in self.cursors if cursor.pod_uid in pod_uids))

    def goes_on_in(self, readings: Sequence[Reading], traffic_version: int) -> bool:
        """Whether each of these readings continues its router's stretch, so that it may be read later too."""
        known = {cursor.pod_uid: cursor for cursor in self.cursors}
        return all(
            reading.pod_uid in known and _same_stretch(known[reading.pod_uid], reading, traffic_version)
            for reading in readings
        )

    def _with(self, tally: Tally, canary: Arm, stable: Arm, elapsed: int) -> tuple[Tally, ...]:
        grown = replace(
            tally,
            milliseconds=tally.milliseconds + elapsed,
            canary=tally.canary + canary,
            stable=tally.stable + stable,
        )
        return (*(other for other in self.tallies if other.weight != tally.weight), grown)


def _same_stretch(before: Reading, after: Reading, traffic_version: int) -> bool:
    return before.started == after.started and before.begins(traffic_version) and after.begins(traffic_version)


def evidence_to_status(evidence: Evidence) -> JsonObject:
    """The JSON kept in status.rollout.evidence; integers and strings only."""
    return {
        "codes": evidence.codes,
        **({"lookedTime": rfc3339(evidence.looked, micro=True)} if evidence.looked else {}),
        "tallies": [
            {
                "weight": t.weight,
                "milliseconds": t.milliseconds,
                "canary": list(astuple(t.canary)),
                "stable": list(astuple(t.stable)),
                **pair_to_status(t.predictions),
            }
            for t in evidence.tallies
        ],
        "cursors": [
            {
                "podUid": c.pod_uid,
                "started": list(c.started),
                "trafficVersion": c.traffic_version,
                "confirmed": c.confirmed,
                "canary": list(astuple(c.canary)),
                "stable": list(astuple(c.stable)),
                **pair_to_status(c.predictions),
            }
            for c in evidence.cursors
        ],
    }


def evidence_from_status(recorded: Mapping[str, Any] | None) -> Evidence:
    """The evidence that a status holds; empty when there is none."""
    if not recorded:
        return Evidence()
    looked = recorded.get("lookedTime")
    return Evidence(
        tallies=tuple(
            Tally(
                int(t["weight"]),
                int(t["milliseconds"]),
                Arm(*t["canary"]),
                Arm(*t["stable"]),
                pair_from_status(t) or NO_PREDICTIONS,
            )
            for t in recorded.get("tallies", [])
        ),
        cursors=tuple(
            Reading(
                c["podUid"],
                (c["started"][0], c["started"][1]),
                int(c["trafficVersion"]),
                bool(c["confirmed"]),
                Arm(*c["canary"]),
                Arm(*c["stable"]),
                pair_from_status(c),
            )
            for c in recorded.get("cursors", [])
        ),
        looked=parse_time(looked) if looked else None,
        codes=recorded.get("codes", ""),
    )
