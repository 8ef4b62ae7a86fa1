"""What a pass over a TrainingJob needs to see, read once: cache for hints, live reads before anything irreversible.

Must not decide; it looks only at what the recorded run makes worth looking at, so that a pass at rest costs no request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from perennial.api.kinds import EVENT, JOB, MODEL_DEPLOYMENT, MODEL_VERSION, POD
from perennial.api.names import LABEL_ATTEMPT, LABEL_OWNER_NAME, LABEL_RUN
from perennial.domain.decision import JsonObject
from perennial.domain.times import parse_time
from perennial.domain.training import champion as champions
from perennial.domain.training import failure as failures
from perennial.domain.training import progress, waiting
from perennial.domain.training.champion import Champion
from perennial.domain.training.record import (
    BadRecord,
    digest_of,
    find_line,
    parse_record,
    parse_resolution,
    parse_summary,
)
from perennial.domain.training.run import identities, job_name, version_name
from perennial.domain.training.state import Stage
from perennial.domain.training.world import (
    Artifact,
    Publication,
    World,
    current_stage,
    is_complete,
    is_failed,
    stages,
    wanted_run,
)
from perennial.ports import ObjectStore
from perennial.runtime.cache import Cache

LOG_LINES = 20
LOG_BYTES = 4096
RECORD_LOG_BYTES = 4 << 20
EVENTS_AFTER_SECONDS = 2.0
"""A pod that got going within this time needs no look at events."""


class TrainingObserver:
    """Builds a World."""

    def __init__(self, store: ObjectStore, cache: Cache) -> None:
        self._store = store
        self._cache = cache

    async def observe(self, job: JsonObject, now: datetime) -> World:
        """The World of one TrainingJob, timestamps included."""
        run = (job.get("status") or {}).get("run") or {}
        owned = [o for o in self._cache.owned_by(job["metadata"]["uid"]) if o["kind"] == JOB.kind]
        if run.get("id") != wanted_run(job).id:
            return World(job, version=await self._version_by_any_recipe(job), owned=owned)
        if run.get("finishedTime"):
            return World(job, owned=owned)
        if int(run.get("attempt", 0)) == 0:
            return World(job, owned=owned, champion=await self._choose_champion(job))
        return await self._observe_attempt(job, run, owned, now)

    async def _version_by_any_recipe(self, job: JsonObject) -> JsonObject | None:
        for known in identities(job["spec"]):
            name = version_name(job["spec"]["model"], known.id)
            found = await self._store.get(MODEL_VERSION, job["metadata"]["namespace"], name)
            if found is not None:
                return found
        return None

    async def _choose_champion(self, job: JsonObject) -> Champion:
        namespace = job["metadata"]["namespace"]
        deployments = await self._store.list(MODEL_DEPLOYMENT, namespace)
        versions = {}
        for deployment in deployments:
            name = champions.named_version(deployment)
            if name and name not in versions:
                versions[name] = await self._store.get(MODEL_VERSION, namespace, name)
        return champions.choose(job["spec"], deployments, {n: v for n, v in versions.items() if v is not None})

    async def _observe_attempt(
        self, job: JsonObject, run: Mapping[str, Any], owned: Sequence[JsonObject], now: datetime
    ) -> World:
        children = await self._children(job, run)
        newest = {child["metadata"]["uid"] for child in list(children.values())[-1:]}
        every = self._pods(job, run, children)
        pods = tuple(pod for pod in every if _owners(pod) & newest)
        earlier = tuple(pod for pod in every if not _owners(pod) & newest)
        known = World(job, children=children, owned=owned, pods=pods, earlier_pods=earlier)
        stage = current_stage(known)
        child = children.get(stage) if stage is not None else None
        if stage is None:
            return await self._observe_publication(known, run)
        champion, base, problem = None, None, ""
        if child is None:
            champion = await self._fixed_champion(job, run)
            base, problem = await self._base(job)
        elif is_failed(child):
            return replace(known, log_tail=await self._log_tail(job, pods))
        return replace(
            known,
            champion=champion,
            base=base,
            base_problem=problem,
            events=await self._events(job, run, child, pods, now),
            resolution=await self._resolution(job, run, pods),
        )

    async def _children(self, job: JsonObject, run: Mapping[str, Any]) -> dict[Stage, JsonObject]:
        """The Jobs of the attempt. A Job that the cache does not know is looked for live before it may be made."""
        namespace, found = job["metadata"]["namespace"], {}
        for stage in stages(job["spec"]):
            name = job_name(job["metadata"]["name"], run["id"], int(run["attempt"]), stage)
            child = self._cache.get(JOB, namespace, name) or await self._store.get(JOB, namespace, name)
            if child is None:
                break
            found[stage] = child
            if not is_complete(child):
                break
        return found

    def _pods(
        self, job: JsonObject, run: Mapping[str, Any], children: Mapping[Stage, JsonObject]
    ) -> tuple[JsonObject, ...]:
        """All pods of the attempt's Jobs."""
        labels = {
            LABEL_RUN: run["id"],
            LABEL_ATTEMPT: str(run["attempt"]),
            LABEL_OWNER_NAME: job["metadata"]["name"],
        }
        uids = {child["metadata"]["uid"] for child in children.values()}
        return tuple(p for p in self._cache.list(POD, job["metadata"]["namespace"], labels) if _owners(p) & uids)

    async def _fixed_champion(self, job: JsonObject, run: Mapping[str, Any]) -> Champion | None:
        """Where the champion that the run has fixed lies."""
        fixed = run.get("champion") or {}
        if not fixed.get("digest"):
            return None
        namespace = job["metadata"]["namespace"]
        if fixed.get("version"):
            version = await self._store.get(MODEL_VERSION, namespace, fixed["version"])
            if version is None:
                return Champion("Unknown", message=f"ModelVersion {fixed['version']}, the run's champion, is gone")
            artifact = version["spec"]["artifact"]
            return Champion("Known", fixed["version"], artifact["digest"], artifact["uri"])
        for deployment in await self._store.list(MODEL_DEPLOYMENT, namespace):
            artifact = deployment["spec"]["model"].get("artifact") or {}
            if artifact.get("digest") == fixed["digest"]:
                return Champion("Known", "", artifact["digest"], artifact["uri"])
        return Champion("Unknown", message=f"no deployment names the champion's artifact {fixed['digest']} any more")

    async def _base(self, job: JsonObject) -> tuple[Artifact | None, str]:
        base = job["spec"].get("base")
        if not base:
            return None, ""
        if base.get("uri"):
            return Artifact(base["uri"], base.get("digest") or ""), ""
        version = await self._store.get(MODEL_VERSION, job["metadata"]["namespace"], base["version"])
        if version is None:
            return None, f"ModelVersion {base['version']}, named by spec.base, does not exist; apply it or name another"
        artifact = version["spec"]["artifact"]
        return Artifact(artifact["uri"], artifact["digest"]), ""

    async def _log_tail(self, job: JsonObject, pods: Sequence[JsonObject]) -> str:
        found = failures.culprit(pods)
        if found is None or found.container not in failures.USER_CONTAINERS:
            return ""
        text = await self._store.log(
            job["metadata"]["namespace"], found.pod, found.container, tail_lines=LOG_LINES, limit_bytes=LOG_BYTES
        )
        return text or ""

    async def _events(
        self,
        job: JsonObject,
        run: Mapping[str, Any],
        child: JsonObject | None,
        pods: Sequence[JsonObject],
        now: datetime,
    ) -> dict[str, list[JsonObject]]:
        """Events about the Job and its pods, only while nothing else explains why nothing runs."""
        if child is None or (pods and not waiting.is_quiet(pods)):
            return {}
        since = parse_time(progress.idle_since(pods, child["metadata"].get("creationTimestamp") or run["attemptTime"]))
        if (now - since).total_seconds() < EVENTS_AFTER_SECONDS:
            return {}
        uids = {child["metadata"]["uid"], *(pod["metadata"]["uid"] for pod in pods)}
        found: dict[str, list[JsonObject]] = {}
        for event in await self._store.list(EVENT, job["metadata"]["namespace"]):
            uid = str((event.get("regarding") or {}).get("uid"))
            if uid in uids:
                found.setdefault(uid, []).append(event)
        return found

    async def _resolution(
        self, job: JsonObject, run: Mapping[str, Any], pods: Sequence[JsonObject]
    ) -> Sequence[Mapping[str, Any]] | None:
        """What fetch resolved, once it has ended; None when it is recorded already or cannot be read."""
        ended = progress.result_of(pods, "fetch")
        pod = progress.rank_zero(pods)
        if run.get("datasets") or ended.get("exitCode") != 0 or pod is None:
            return None
        line = await self._record_line(job, pod, "fetch", ended.get("message") or "")
        try:
            return None if line is None else parse_resolution(line)
        except BadRecord:
            return None  # fetch ran with another image than ours: later attempts resolve again

    async def _record_line(self, job: JsonObject, pod: Mapping[str, Any], container: str, message: str) -> str | None:
        """The record line of a container's log that its termination message vouches for."""
        digest = message.partition('"record": "')[2].partition('"')[0]
        text = await self._store.log(
            job["metadata"]["namespace"], pod["metadata"]["name"], container, limit_bytes=RECORD_LOG_BYTES
        )
        return find_line(text, digest) if text and digest else None

    async def _observe_publication(self, known: World, run: Mapping[str, Any]) -> World:
        job, namespace = known.job, known.job["metadata"]["namespace"]
        version = await self._store.get(MODEL_VERSION, namespace, version_name(known.spec["model"], run["id"]))
        report, publication = None, None
        if version is None:
            publication = await self._publication(job, known.pods, "publish")
            if publication.lost:
                report, publication = await self._reported(job, run, publication)
        return replace(known, version=version, publication=publication, report=report)

    async def _publication(
        self, job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], container: str
    ) -> Publication:
        pod, ended = progress.rank_zero(pods), progress.result_of(pods, container)
        if pod is None or not ended:
            return Publication(problem=f"the pod of {container} is gone", lost=True)
        message = ended.get("message") or ""
        try:
            summary = parse_summary(message)
        except BadRecord as error:
            return Publication(problem=f"{container} ended well, but {error}")
        text = await self._store.log(
            job["metadata"]["namespace"], pod["metadata"]["name"], container, limit_bytes=RECORD_LOG_BYTES
        )
        line = find_line(text or "", summary.record_digest)
        if line is None:
            return Publication(problem=f"the log of {container} does not hold the record any more", lost=True)
        try:
            record = parse_record(line, output_uri=job["spec"]["output"]["uri"])
        except BadRecord as error:
            return Publication(problem=f"the record of {container} cannot be used: {error}")
        if record.artifact["digest"] != summary.artifact_digest or digest_of(line) != summary.record_digest:
            return Publication(problem=f"the record of {container} names another artifact than its message")
        return Publication(record)

    async def _reported(
        self, job: Mapping[str, Any], run: Mapping[str, Any], lost: Publication
    ) -> tuple[JsonObject | None, Publication]:
        """The report Job of the attempt, and the record that it printed, when it has."""
        namespace = job["metadata"]["namespace"]
        name = job_name(job["metadata"]["name"], run["id"], int(run["attempt"]), "report")
        report = self._cache.get(JOB, namespace, name) or await self._store.get(JOB, namespace, name)
        if report is None or not is_complete(report):
            return report, lost
        labels = {LABEL_RUN: run["id"], LABEL_ATTEMPT: str(run["attempt"])}
        uid = report["metadata"]["uid"]
        pods = [pod for pod in self._cache.list(POD, namespace, labels) if uid in _owners(pod)]
        again = await self._publication(job, pods, "report")
        return report, again if again.record or not again.lost else Publication(problem=again.problem)


def _owners(obj: Mapping[str, Any]) -> set[str]:
    return {str(owner.get("uid")) for owner in obj["metadata"].get("ownerReferences") or ()}
