"""What a pass over a DriftPolicy needs to see: the cache for hints, the routers for counts, live reads for baselines.

Must not decide. What it remembers (books, baselines, the last round of router reports) it can read again at any time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from perennial.api.kinds import DRIFT_POLICY, JOB, MODEL_DEPLOYMENT, MODEL_VERSION, POD, TRAINING_JOB
from perennial.api.names import LABEL_JOB_NAME, ROUTER
from perennial.controllers.router_pods import RouterPods
from perennial.domain.decision import JsonObject
from perennial.domain.drift.baseline import Baseline, BaselineError, parse_baseline
from perennial.domain.drift.examine import due_windows
from perennial.domain.drift.spec import PolicySpec, parse_spec
from perennial.domain.drift.windows import FINAL_AFTER_SECONDS, Book, Pull
from perennial.domain.drift.world import Champion, Probe, Reading, World
from perennial.domain.errors import PerennialError
from perennial.domain.owners import is_controlled_by
from perennial.domain.times import parse_time
from perennial.domain.training.record import BadRecord, find_line, parse_resolution
from perennial.domain.training.world import is_complete, is_failed
from perennial.ports import Clock, MetricsSource, ObjectStore, RouterReport, RouterReports
from perennial.render.drift import probe_number
from perennial.runtime.cache import Cache

MAX_BASELINES = 200
LEAVING_PERIOD = 2.0
"""Seconds between rounds while a router is being stopped: it waits ten for its last counts to be read."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round of asking the routers of a namespace. leaving: some of them are being stopped."""

    pull: Pull
    reports: tuple[RouterReport, ...] = ()
    leaving: bool = False


@dataclass(slots=True)
class Memory:
    """What may be forgotten: baselines by ModelVersion uid, the last round by namespace."""

    baselines: dict[str, tuple[Baseline | None, str]] = field(default_factory=dict)
    rounds: dict[str, Round] = field(default_factory=dict)


def pull_period(seconds: int) -> float:
    """How often routers are asked for windows of that length."""
    return min(30.0, max(1.0, seconds / 20))


def due_start(policy: Mapping[str, Any], spec: PolicySpec, now: float) -> int | None:
    """The start of the oldest window that has closed and was not examined."""
    end = ((policy.get("status") or {}).get("window") or {}).get("endTime")
    born = parse_time(policy["metadata"]["creationTimestamp"]).timestamp()
    due = due_windows(spec.window, parse_time(end).timestamp() if end else None, born, now)
    return due[0] if due else None


class DriftObserver:
    """Builds a World."""

    def __init__(
        self, store: ObjectStore, cache: Cache, clock: Clock, routers: RouterReports, metrics: MetricsSource | None
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._routers = routers
        self._pods = RouterPods(store, cache)
        self._metrics = metrics
        self._memory = Memory()

    async def round_of(self, policy: JsonObject, spec: PolicySpec) -> Round | None:
        """The routers' counts, asked anew when the last round is too old for this policy; None when not needed."""
        namespace = policy["metadata"]["namespace"]
        if spec.source != "observations" or spec.suspend:
            return None
        if self._cache.get(MODEL_DEPLOYMENT, namespace, spec.deployment) is None:
            return None
        now = self._clock.now().timestamp()
        last = self._memory.rounds.get(namespace)
        due = due_start(policy, spec, now)
        final = (due or 0) + spec.window.seconds + FINAL_AFTER_SECONDS
        behind = due is not None and last is not None and (last.pull.time < final or bool(last.pull.silent))
        leaving = await self._pods.leaving_pods(namespace, self._clock.now())
        period = LEAVING_PERIOD if leaving else pull_period(spec.window.seconds)
        if last is None or behind or now - last.pull.time >= period:
            last = self._memory.rounds[namespace] = await self._ask(namespace)
        return last

    async def _ask(self, namespace: str) -> Round:
        """Ask every router pod of the namespace that is ready or being stopped; only a ready one can be missed."""
        ready = await self._pods.ready_pods(namespace)
        leaving = await self._pods.leaving_pods(namespace, self._clock.now())
        now = self._clock.now().timestamp()
        expected = tuple(name for name, _, _ in ready) or (ROUTER,)
        token = await self._pods.token(namespace) if ready or leaving else None
        if token is None:
            return Round(Pull(now, expected), leaving=bool(leaving))
        pods = [*ready, *leaving]
        reports = await self._routers.collect(namespace, pods, token, want="all")
        if not reports:
            await self._pods.token(namespace, fresh=True)  # it may have been made anew; the next round uses it
        believed = {uid for _, uid, _ in pods}
        answers = tuple(report for report in reports if report.pod_uid in believed)
        told = {report.pod for report in answers}
        return Round(Pull(now, tuple(name for name in expected if name not in told)), answers, bool(leaving))

    async def observe(self, policy: JsonObject, spec: PolicySpec, book: Book, pull: Pull | None) -> World:
        """The World of one policy."""
        namespace = policy["metadata"]["namespace"]
        status = policy.get("status") or {}
        active = status.get("activeTrigger") or {}
        deployment = self._cache.get(MODEL_DEPLOYMENT, namespace, spec.deployment)
        history = ((deployment or {}).get("status") or {}).get("history") or [{}]
        children = self._cache.owned_by(policy["metadata"]["uid"])
        return World(
            policy=policy,
            spec=spec,
            siblings=tuple(siblings_of(policy, self._cache)),
            deployment=deployment,
            champion=await self._champion(namespace, deployment),
            book=book,
            pull=pull,
            reading=await self._reading(policy, spec),
            template=self._named(TRAINING_JOB, namespace, spec.retrain.training_job if spec.retrain else None),
            job=await self._job(policy, active.get("trainingJob")),
            result=self._named(MODEL_VERSION, namespace, _result_name(active, self._cache, namespace)),
            serving=self._named(MODEL_VERSION, namespace, history[0].get("version")),
            jobs=tuple(child for child in children if child["kind"] == TRAINING_JOB.kind),
            probes=tuple([await self._probe(policy, job, n) for job, n in _probe_jobs(policy, children)]),
        )

    def _named(self, kind: Any, namespace: str, name: str | None) -> JsonObject | None:
        return self._cache.get(kind, namespace, name) if name else None

    async def _job(self, policy: JsonObject, name: str | None) -> JsonObject | None:
        """The trigger's TrainingJob, looked for live before it may be made; a stranger's of that name is none."""
        if not name:
            return None
        namespace = policy["metadata"]["namespace"]
        found = self._cache.get(TRAINING_JOB, namespace, name) or await self._store.get(TRAINING_JOB, namespace, name)
        return found if found is not None and is_controlled_by(found, policy) else None

    async def _champion(self, namespace: str, deployment: JsonObject | None) -> Champion | None:
        status = (deployment or {}).get("status") or {}
        stable = status.get("stable") or {}
        if deployment is None or not stable.get("revision"):
            return None
        revision, name = str(stable["revision"]), str(stable.get("version") or "")
        promoted = [item for item in status.get("history") or () if item.get("revision") == revision]
        moment = promoted[0]["promotedTime"] if promoted else deployment["metadata"]["creationTimestamp"]
        since = parse_time(moment).timestamp()
        if not name:
            words = "what serves has no ModelVersion, so there is no reference; serve a version to watch it"
            return Champion(revision, name, since, None, words)
        version = self._cache.get(MODEL_VERSION, namespace, name)
        baseline, problem = await self._baseline(namespace, name, version)
        lineage = ((version or {}).get("spec") or {}).get("lineage") or {}
        datasets = {str(d["name"]): str(d["digest"]) for d in lineage.get("datasets") or () if d.get("digest")}
        return Champion(revision, name, since, baseline, problem, datasets)

    async def _baseline(self, namespace: str, name: str, cached: JsonObject | None) -> tuple[Baseline | None, str]:
        """The baseline of a version: facts that never change, so one read for each uid."""
        uid = str(cached["metadata"]["uid"]) if cached is not None else ""
        if uid in self._memory.baselines:
            return self._memory.baselines[uid]
        version = await self._store.get(MODEL_VERSION, namespace, name)
        if version is None:
            return None, f"ModelVersion {name}, which serves, does not exist any more"
        raw = version["spec"].get("baseline")
        found: tuple[Baseline | None, str]
        if not raw:
            found = None, f"version {name} has no baseline: let the training write reference.csv"
        else:
            try:
                found = parse_baseline(raw), ""
            except BaselineError as error:
                found = None, f"version {name}: {error}"
        if len(self._memory.baselines) >= MAX_BASELINES:
            self._memory.baselines.clear()
        self._memory.baselines[version["metadata"]["uid"]] = found
        return found

    async def _reading(self, policy: JsonObject, spec: PolicySpec) -> Reading | None:
        """The number of a metrics query at the end of the window that is due."""
        now = self._clock.now().timestamp()
        start = due_start(policy, spec, now) if spec.prometheus is not None and not spec.suspend else None
        if start is None or spec.prometheus is None:
            return None
        end = start + spec.window.seconds
        if self._metrics is None:
            return Reading(end, None, "the operator has no metrics sources; name one in its settings", failed=True)
        try:
            sample = await self._metrics.query(
                spec.prometheus.source, spec.prometheus.query, at=datetime.fromtimestamp(end, UTC)
            )
        except PerennialError as error:
            return Reading(end, None, error.message, failed=True)
        return Reading(
            end, sample.value, sample.detail or ("" if sample.value is not None else "the query gave no data")
        )

    async def _probe(self, policy: JsonObject, job: JsonObject, number: int) -> Probe:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        if not (is_complete(job) or is_failed(job)):
            return Probe(name, uid, number, done=False)
        pods = self._cache.list(POD, policy["metadata"]["namespace"], {LABEL_JOB_NAME: name})
        for pod in pods:
            for container in (pod.get("status") or {}).get("containerStatuses") or ():
                ended = (container.get("state") or {}).get("terminated")
                if ended:
                    return await self._told(pod, ended, Probe(name, uid, number, done=True))
        problem = "the training data could not be read: its probe left no answer; it is tried again in the next window"
        return Probe(name, uid, number, done=True, problem=problem)

    async def _told(self, pod: JsonObject, ended: Mapping[str, Any], probe: Probe) -> Probe:
        """What a probe's container said in its termination message, or in its log when that was too small."""
        message = str(ended.get("message") or "")
        if ended.get("exitCode") != 0:
            problem = f"the training data could not be read: {message or 'exit code ' + str(ended.get('exitCode'))}"
            return Probe(probe.name, probe.uid, probe.number, done=True, problem=problem)
        try:
            found = parse_resolution(message)
        except BadRecord:
            meta = pod["metadata"]
            text = await self._store.log(meta["namespace"], meta["name"], "digest") or ""
            line = find_line(text, message.partition('"record": "')[2].partition('"')[0])
            try:
                found = parse_resolution(line or "")
            except BadRecord as error:
                problem = f"the digests of the training data could not be read: {error}"
                return Probe(probe.name, probe.uid, probe.number, done=True, problem=problem)
        digests = {str(item["name"]): str(item["digest"]) for item in found}
        return Probe(probe.name, probe.uid, probe.number, done=True, digests=digests)


def siblings_of(policy: Mapping[str, Any], cache: Cache) -> list[JsonObject]:
    """The other policies of the same deployment."""
    wanted, meta = parse_spec(policy["spec"]).deployment, policy["metadata"]
    return [
        other
        for other in cache.list(DRIFT_POLICY, meta["namespace"])
        if other["metadata"]["name"] != meta["name"] and other["spec"]["deploymentRef"]["name"] == wanted
    ]


def _result_name(active: Mapping[str, Any], cache: Cache, namespace: str) -> str | None:
    """The version that the active trigger's TrainingJob made."""
    if active.get("resultVersion"):
        return str(active["resultVersion"])
    job = cache.get(TRAINING_JOB, namespace, str(active.get("trainingJob")))
    name = ((job or {}).get("status") or {}).get("lastVersion")
    return str(name) if name else None


def _probe_jobs(policy: JsonObject, children: list[JsonObject]) -> list[tuple[JsonObject, int]]:
    name = policy["metadata"]["name"]
    found = [(child, probe_number(name, child["metadata"]["name"])) for child in children if child["kind"] == JOB.kind]
    return [(job, number) for job, number in found if number is not None]
