"""ModelVersion: whether the record is complete, and who serves it. It changes nothing but this kind's status."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.api.kinds import MODEL_DEPLOYMENT, MODEL_VERSION, Kind
from perennial.api.names import FIELD_MANAGER_PREFIX
from perennial.domain import reasons
from perennial.domain.conditions import Condition, merged
from perennial.domain.decision import JsonObject
from perennial.domain.times import rfc3339
from perennial.ports import Clock, EventSink, ObjectStore
from perennial.runtime.cache import Cache
from perennial.runtime.outcome import DONE, Key, Outcome
from perennial.runtime.status import write_status

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class ModelVersionSettings:
    """Nothing to set yet; every controller is made alike."""


def serves(deployment: Mapping[str, Any]) -> set[str]:
    """The versions that a ModelDeployment serves now, as stable or as canary."""
    status = deployment.get("status") or {}
    return {str(v) for role in ("stable", "canary") if (v := (status.get(role) or {}).get("version"))}


def readiness(version: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Ready of a ModelVersion, and Stalled when it is not."""
    artifact = (version.get("spec") or {}).get("artifact") or {}
    wrong = [
        text
        for text, bad in (
            ("spec.artifact.uri is missing", not artifact.get("uri")),
            (
                "spec.artifact.digest must be sha256: and 64 hex digits",
                not _DIGEST.match(str(artifact.get("digest", ""))),
            ),
        )
        if bad
    ]
    if wrong:
        text = f"the record cannot be served: {' and '.join(wrong)}; make a new ModelVersion"
        return (
            Condition("Ready", "False", reasons.RECORD_INCOMPLETE, text),
            Condition("Stalled", "True", reasons.RECORD_INCOMPLETE, text),
        )
    return (Condition("Ready", "True", reasons.RECORD_COMPLETE, "the record names its artifact and digest"),)


class ModelVersionController:
    """Keeps status.conditions and status.deployments."""

    kind: Kind = MODEL_VERSION
    name = "model-version"

    def __init__(
        self, store: ObjectStore, cache: Cache, events: EventSink, clock: Clock, settings: ModelVersionSettings
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock

    def keys_for(self, obj: JsonObject, cache: Cache) -> Iterable[Key]:
        """A ModelDeployment wakes the versions that it serves, and those that still name it."""
        if obj.get("kind") != MODEL_DEPLOYMENT.kind:
            return ()
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        named = serves(obj)
        for version in cache.list(MODEL_VERSION, namespace):
            if name in ((version.get("status") or {}).get("deployments") or ()):
                named.add(version["metadata"]["name"])
        return [Key(namespace, version) for version in sorted(named)]

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over one ModelVersion."""
        version = self._cache.get(MODEL_VERSION, key.namespace, key.name)
        if version is None or version["metadata"].get("deletionTimestamp"):
            return DONE
        generation = int(version["metadata"].get("generation") or 0)
        recorded = version.get("status") or {}
        users = sorted(
            d["metadata"]["name"] for d in self._cache.list(MODEL_DEPLOYMENT, key.namespace) if key.name in serves(d)
        )
        status = {
            "observedGeneration": generation,
            "conditions": merged(
                recorded.get("conditions") or (),
                readiness(version),
                generation=generation,
                now=rfc3339(self._clock.now()),
            ),
            "deployments": users,
        }
        manager = FIELD_MANAGER_PREFIX + self.name
        wrote = await write_status(self._store, self._cache, version, status, manager=manager)
        return Outcome(changed=wrote)
