"""What a pass over a ModelDeployment sees: children from the cache, routers over HTTP, metrics from their provider.

Must not decide. Routers are asked at most once a period per deployment, however often a pass runs; at rest nothing is
asked at all.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from perennial.api import kinds, names
from perennial.controllers.deployment_gateway import GatewayRoutes
from perennial.controllers.deployment_metrics import MetricLooks
from perennial.controllers.router_fleet import RouterFleet
from perennial.domain import reasons
from perennial.domain.authors import read_authors
from perennial.domain.decision import JsonObject
from perennial.domain.rollout.commands import read_command
from perennial.domain.rollout.pods import PodTrouble, is_serving, trouble_of
from perennial.domain.rollout.recorded import recorded_from_status
from perennial.domain.rollout.routers import read_router
from perennial.domain.rollout.smoke import JobSeen, is_smoke_job
from perennial.domain.rollout.smoke_job import read_job
from perennial.domain.rollout.spec import DeploymentSpec, read_spec
from perennial.domain.rollout.state import State
from perennial.domain.rollout.stops import VERIFY_SECONDS
from perennial.domain.rollout.targets import Sources, choose_directly, find_stable, find_target, rejection_of
from perennial.domain.rollout.world import Recorded, RevisionSeen, RouterSeen, Trouble, World
from perennial.domain.times import is_fresh, parse_time
from perennial.ports import MetricsSource, RouterReports
from perennial.runtime.cache import Cache

_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class _Look:
    """The routers as seen at a time, for one state and traffic version."""

    time: datetime
    of: tuple[str, str, int]
    routers: tuple[RouterSeen, ...]


class DeploymentObserver:
    """Builds the World of one ModelDeployment."""

    def __init__(
        self,
        cache: Cache,
        fleet: RouterFleet,
        routes: GatewayRoutes,
        reports: RouterReports,
        metrics: MetricsSource | None,
        runtimes: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._cache = cache
        self._fleet = fleet
        self._routes = routes
        self._reports = reports
        self._metrics = MetricLooks(metrics)
        self._runtimes = runtimes
        self._looks: dict[str, _Look] = {}

    async def observe(self, deployment: JsonObject, now: datetime) -> World:
        """The World of now. Transient when the API server fails."""
        meta = deployment["metadata"]
        status = deployment.get("status") or {}
        spec = read_spec(deployment["spec"])
        recorded = recorded_from_status(status)
        revisions = self._revisions(deployment)
        named = self._cache.list(kinds.MODEL_VERSION, meta["namespace"])
        versions = {version["metadata"]["name"]: version for version in named}
        annotations = meta.get("annotations") or {}
        sources = Sources(meta["name"], versions, revisions, self._runtimes)
        return World(
            name=meta["name"],
            namespace=meta["namespace"],
            uid=meta["uid"],
            generation=int(meta.get("generation", 0)),
            spec=spec,
            recorded=recorded,
            target=find_target(spec, recorded, sources),
            stable_again=find_stable(spec, recorded, sources) if _lacks_stable(recorded, revisions) else None,
            choice=choose_directly(spec, recorded, named, meta["name"]),
            revisions=revisions,
            routers=await self._routers(meta["namespace"], meta["name"], spec, recorded, now),
            commit=_commit(annotations.get(names.ANNOTATION_SYNC_COMMIT)),
            authors=read_authors(annotations.get(names.ANNOTATION_SYNC_AUTHORS)),
            command=read_command(annotations.get(names.ANNOTATION_COMMAND)),
            metrics=await self._metrics.findings(f"{meta['namespace']}/{meta['name']}", spec.analysis, recorded, now),
            version_rejections={
                name: rejection_of(versions[name], meta["name"])
                for name in {entry.version or "" for entry in recorded.rejected}
                if name in versions
            },
            trouble=self._trouble(deployment, spec),
            gateway=await self._routes.look(deployment, spec.gateway, recorded, revisions, now),
            smoke_jobs=self._smoke_jobs(deployment, now),
        )

    def forget(self, namespace: str, name: str) -> None:
        """The deployment is gone."""
        self._looks.pop(f"{namespace}/{name}", None)
        self._metrics.forget(f"{namespace}/{name}")

    def _revisions(self, deployment: JsonObject) -> dict[str, RevisionSeen]:
        owned = self._cache.owned_by(deployment["metadata"]["uid"])
        services = {obj["metadata"]["name"] for obj in owned if obj["kind"] == kinds.SERVICE.kind}
        seen = {}
        for obj in owned:
            revision = (obj["metadata"].get("labels") or {}).get(names.LABEL_REVISION)
            if obj["kind"] == kinds.DEPLOYMENT.kind and revision and not obj["metadata"].get("deletionTimestamp"):
                seen[revision] = self._revision(obj, revision, has_service=obj["metadata"]["name"] in services)
        return seen

    def _revision(self, obj: JsonObject, revision: str, *, has_service: bool) -> RevisionSeen:
        meta, status = obj["metadata"], obj.get("status") or {}
        annotations = meta.get("annotations") or {}
        replicas = int(obj["spec"].get("replicas", 1))
        available = min(replicas, int(status.get("availableReplicas") or 0))
        if int(status.get("observedGeneration") or 0) < int(meta.get("generation") or 0):
            # What status tells may be of a spec before: pods that a drain is stopping are not there for an undo.
            available = min(available, sum(map(is_serving, self._pods(meta["namespace"], obj))))
        drain = annotations.get(names.ANNOTATION_SCALE_DOWN_AT)
        trouble = PodTrouble()
        if available < replicas:
            trouble = trouble_of(self._pods(meta["namespace"], obj), status.get("conditions") or ())
        return RevisionSeen(
            revision=revision,
            uid=meta["uid"],
            replicas=replicas,
            available=available,
            ready=min(replicas, int(status.get("readyReplicas") or 0)),
            version=annotations.get(names.ANNOTATION_VERSION),
            digest=annotations.get(names.ANNOTATION_DIGEST),
            fingerprint=annotations.get(names.ANNOTATION_SPEC_HASH, ""),
            recipe=annotations.get(names.ANNOTATION_HASH_RECIPE, ""),
            entry=json.loads(annotations.get(names.ANNOTATION_ENTRY, "{}")),
            created=meta.get("creationTimestamp", ""),
            has_service=has_service,
            trouble=trouble.words,
            unschedulable_since=trouble.unschedulable_since,
            drain_until=parse_time(drain) if drain else None,
        )

    def _smoke_jobs(self, deployment: JsonObject, now: datetime) -> tuple[JobSeen, ...]:
        """The Jobs that send sample inputs, with what their pods say."""
        meta = deployment["metadata"]
        jobs = [
            obj
            for obj in self._cache.owned_by(meta["uid"])
            if obj["kind"] == kinds.JOB.kind and is_smoke_job(meta["name"], obj["metadata"]["name"])
        ]
        return tuple(
            read_job(
                job,
                self._cache.list(kinds.POD, meta["namespace"], {names.LABEL_JOB_NAME: job["metadata"]["name"]}),
                now,
            )
            for job in jobs
            if not job["metadata"].get("deletionTimestamp")
        )

    def _pods(self, namespace: str, obj: JsonObject) -> list[JsonObject]:
        return self._cache.list(kinds.POD, namespace, obj["spec"]["selector"]["matchLabels"])

    async def _routers(
        self, namespace: str, name: str, spec: DeploymentSpec, recorded: Recorded, now: datetime
    ) -> tuple[RouterSeen, ...]:
        """The ready routers; their counts only when a look is due, so that no pass makes another one necessary."""
        rollout = recorded.rollout
        key = f"{namespace}/{name}"
        if rollout is None:
            self._looks.pop(key, None)
            return ()
        of = (rollout.id, str(rollout.state), recorded.traffic_version)
        last = self._looks.get(key)
        checking = rollout.state is State.SCALING and rollout.checking_since is not None
        verifying = checking or rollout.state in (State.SHIFTING, State.WITHDRAWING)
        period = VERIFY_SECONDS if verifying else float(spec.analysis.period_seconds)
        pods = await self._fleet.ready_pods(namespace)
        warm = last is not None and last.time < rollout.counts_from(spec.analysis.warmup_seconds) <= now
        if last is not None and last.of == of and not warm and is_fresh(last.time, now, period * 0.9):
            uids = {uid for _, uid, _ in pods}
            known = tuple(replace(router, reading=None) for router in last.routers if router.uid in uids)
            new = uids - {router.uid for router in known}
            return (*known, *(self._unheard(namespace, pod, uid) for pod, uid, _ in pods if uid in new))
        routers = await self._ask(namespace, name, spec, recorded, pods)
        self._looks[key] = _Look(now, of, routers)
        return routers

    async def _ask(
        self, namespace: str, name: str, spec: DeploymentSpec, recorded: Recorded, pods: list[tuple[str, str, str]]
    ) -> tuple[RouterSeen, ...]:
        token = await self._fleet.token(namespace) if pods else None
        if token is None:
            return tuple(self._unheard(namespace, pod, uid) for pod, uid, _ in pods)
        rollout = recorded.rollout
        counting = rollout is not None and (rollout.copying or recorded.weight_of(rollout.target.revision) > 0)
        reports = await self._reports.collect(
            namespace, pods, token, want="all" if counting else "status", deployment=name
        )
        if not reports:
            await self._fleet.token(namespace, fresh=True)  # it may have been made anew; the next look uses it
        by_uid = {report.pod_uid: report for report in reports}
        seen = []
        for pod, uid, _ in pods:
            report = by_uid.get(uid)
            if report is None:
                seen.append(self._unheard(namespace, pod, uid))
                continue
            seen.append(
                read_router(
                    pod,
                    uid,
                    report.status,
                    report.counts,
                    deployment=name,
                    recorded=recorded,
                    failure_codes=spec.analysis.failure_codes,
                    created=self._created(namespace, pod),
                )
            )
        return tuple(seen)

    def _unheard(self, namespace: str, pod: str, uid: str) -> RouterSeen:
        return RouterSeen(pod, uid, created=self._created(namespace, pod))

    def _created(self, namespace: str, pod: str) -> datetime | None:
        found = self._cache.get(kinds.POD, namespace, pod)
        return parse_time(found["metadata"]["creationTimestamp"]) if found is not None else None

    def _trouble(self, deployment: JsonObject, spec: DeploymentSpec) -> Trouble | None:
        """What a person must set right, whatever is going on."""
        if spec.update_policy != "Git":
            return None
        meta = deployment["metadata"]
        sync = (meta.get("labels") or {}).get(names.LABEL_SYNC)
        syncs = self._cache.list(kinds.GIT_SYNC, meta["namespace"])
        if any(s["metadata"]["name"] == sync or s["spec"].get("apply") is False for s in syncs):
            return None
        return Trouble(
            reasons.NO_GIT_SYNC,
            "updatePolicy is Git, but no GitSync of this namespace keeps this ModelDeployment: commit it below a "
            "GitSync's path, or use updatePolicy Manual or Direct.",
        )


def _lacks_stable(recorded: Recorded, revisions: Mapping[str, RevisionSeen]) -> bool:
    """Whether stable's Deployment or Service is gone."""
    seen = revisions.get(recorded.stable.revision) if recorded.stable is not None else None
    return recorded.stable is not None and (seen is None or not seen.has_service)


def _commit(text: str | None) -> str | None:
    """The commit that GitSync noted; a person may have put anything there, which status could not hold."""
    return text if text is not None and _COMMIT.fullmatch(text) else None
