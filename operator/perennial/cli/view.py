"""Objects to lines of text: what `status` and `get` show. Pure; must not talk to a cluster or read a clock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perennial.domain import conditions
from perennial.domain.decision import JsonObject

HISTORY = 5
_SAID = {
    "Step": "step approved",
    "Signature": "changed inputs approved",
    "Promote": "promotion ordered",
    "Skip": "skip ordered",
}


@dataclass(frozen=True, slots=True)
class Family:
    """A ModelDeployment and everything around it, as read from the cluster."""

    deployment: JsonObject
    versions: Sequence[JsonObject] = ()
    trainings: Sequence[JsonObject] = ()
    policies: Sequence[JsonObject] = ()
    syncs: Sequence[JsonObject] = ()
    pods: Sequence[JsonObject] = field(default=())


def status_lines(family: Family) -> list[str]:
    """One deployment: stable, canary, weight, evidence, last versions with commits, what is wrong and what is next."""
    mdep = family.deployment
    status = mdep.get("status", {})
    lines = [f"ModelDeployment {mdep['metadata']['namespace']}/{mdep['metadata']['name']}: {headline(mdep)}"]
    lines += _arm("stable", status.get("stable"), status.get("traffic", ()))
    lines += _arm("canary", status.get("canary"), status.get("traffic", ()))
    lines += _gateway(status.get("gateway"))
    lines += _rollout(status.get("rollout"))
    lines += _versions(family)
    lines += [line for policy in family.policies for line in _policy(policy)]
    lines += [line for training in family.trainings for line in _training(training)]
    lines += [line for sync in family.syncs for line in _sync(sync)]
    return lines


def headline(obj: Mapping[str, Any]) -> str:
    """The sentence that matters most: why it is stalled, else what it is doing, else that it is ready."""
    found = obj.get("status", {}).get("conditions", ())
    for type_ in ("Stalled", "Reconciling"):
        condition = conditions.find(found, type_)
        if condition is not None and condition.get("status") == "True":
            return f"{condition['reason']}: {condition.get('message', '')}"
    ready = conditions.find(found, "Ready")
    if ready is None:
        return "not seen by the operator yet (is it running? kubectl -n perennial-system get pods)"
    word = "Ready" if ready.get("status") == "True" else "NotReady"
    return f"{word}: {ready.get('message') or ready.get('reason')}"


def _arm(name: str, arm: Mapping[str, Any] | None, traffic: Iterable[Mapping[str, Any]]) -> list[str]:
    if not arm or not arm.get("revision"):
        return []
    weight = next((t["weight"] for t in traffic if t["revision"] == arm["revision"]), 0)
    version = arm.get("version") or arm.get("digest", "")
    ready = f"{arm.get('readyReplicas', 0)}/{arm.get('replicas', 0)} ready"
    return [f"  {name:<8} {version}  revision {arm['revision']}  {weight} % of requests  {ready}"]


def _gateway(route: Mapping[str, Any] | None) -> list[str]:
    if not route:
        return []
    word = "accepted" if route.get("accepted") else "not accepted"
    return [
        f"  gateway  {word}: {route.get('message', '')}",
        "           requests through it are not counted below; metrics decide about a canary",
    ]


def _rollout(rollout: Mapping[str, Any] | None) -> list[str]:
    if not rollout:
        return []
    analysis = rollout.get("analysis", {})
    lines = [f"  rollout  step {rollout.get('step', 0)} of {rollout.get('steps', 0)}"]
    if analysis:
        lines[0] += f", {analysis.get('failures', 0)} of {analysis.get('requests', 0)} requests failed"
        interval = analysis.get("interval")
        if interval:
            lines.append(f"           failure rate between {interval['low']} and {interval['high']} (95 %)")
        lines.append(
            f"           evidence to abort {analysis.get('abortEvidence', '-')}, "
            f"to promote {analysis.get('promoteEvidence', '-')}"
        )
        if analysis.get("reason"):
            lines.append(f"           {analysis.get('verdict', '')}: {analysis['reason']}")
        lines += _predictions(analysis.get("predictions"))
    lines += _smoke(rollout.get("smoke"))
    lines += [
        f"           {_SAID[word['said']]} by {word['by']} at {word['weight']} %, {word['time']}"
        for word in rollout.get("approvals", ())
    ]
    if rollout.get("etaSeconds") is not None:
        lines.append(f"           about {rollout['etaSeconds']} s to go at this rate of requests")
    return lines


def _smoke(smoke: Mapping[str, Any] | None) -> list[str]:
    """What became of sample inputs."""
    if not smoke:
        return []
    if "sent" not in smoke:
        return [
            f"           sample inputs: {smoke.get('trouble') or ('passed over' if smoke.get('over') else 'under way')}"
        ]
    took = f"half within {smoke.get('p50Milliseconds', 0)} ms, 95 % within {smoke.get('p95Milliseconds', 0)} ms"
    lines = [
        f"           sample inputs: {smoke.get('failures', 0)} of {smoke['sent']} requests failed, answered {took}",
        *([f"           first failure: {smoke['first']}"] if smoke.get("first") else []),
    ]
    return [*lines, *([f"           {smoke['skew']}"] if smoke.get("skew") else [])]


def _predictions(compared: Mapping[str, Any] | None) -> list[str]:
    if not compared:
        return []
    return [f"           predictions {compared['verdict']}: {compared.get('reason', '')}"]


def _versions(family: Family) -> list[str]:
    commits = {h.get("version"): h.get("commit", "") for h in family.deployment.get("status", {}).get("history", ())}
    name = family.deployment["metadata"]["name"]
    newest = sorted(family.versions, key=_finished, reverse=True)[:HISTORY]
    lines = []
    for version in newest:
        spec = version["spec"]
        refused = [r for r in spec.get("rejections", ()) if r.get("deployment") == name]
        mark = (
            "rejected" if refused else ("passed its gate" if spec.get("gate", {}).get("passed") else "no passed gate")
        )
        metrics = ", ".join(f"{k} {_short(v)}" for k, v in list(spec.get("metrics", {}).items())[:4])
        commit = commits.get(version["metadata"]["name"], "")
        lines.append(f"  version  {version['metadata']['name']}  {mark}  {metrics}  {commit[:12]}".rstrip())
    return lines


def _short(decimal: str) -> str:
    """A metric to four significant digits."""
    try:
        return f"{float(decimal):.4g}"
    except ValueError:
        return decimal


def _finished(version: Mapping[str, Any]) -> str:
    return str(version["spec"].get("lineage", {}).get("finishedTime", ""))


def _policy(policy: JsonObject) -> list[str]:
    status = policy.get("status", {})
    lines = [f"  drift    {policy['metadata']['name']}: {status.get('state', 'Unknown')}. {headline(policy)}"]
    active = status.get("activeTrigger")
    if active:
        lines.append(
            f"           trigger {active['id']} in flight, training {active.get('trainingJob', 'not started')}"
        )
    return lines


def _training(training: JsonObject) -> list[str]:
    return [f"  training {training['metadata']['name']}: {headline(training)}"]


def _sync(sync: JsonObject) -> list[str]:
    status = sync.get("status", {})
    pending = len(status.get("writeBack", {}).get("pending", ()))
    waiting = f", {pending} change(s) waiting to be written to Git" if pending else ""
    revision = status.get("lastAppliedRevision", "nothing applied yet")
    return [f"  git      {sync['metadata']['name']}: {revision}{waiting}. {headline(sync)}"]


def tree_lines(family: Family) -> list[str]:
    """Deployment -> revisions -> pods, for `get -w`."""
    lines = status_lines(family)
    by_revision: dict[str, list[JsonObject]] = {}
    for pod in family.pods:
        revision = pod["metadata"].get("labels", {}).get("perennial.dev/revision", "")
        by_revision.setdefault(revision, []).append(pod)
    for revision, pods in sorted(by_revision.items()):
        lines.append(f"  revision {revision}")
        lines += [f"    pod {p['metadata']['name']}  {pod_word(p)}" for p in pods]
    return lines


def pod_word(pod: Mapping[str, Any]) -> str:
    """A pod in one word: why a container waits, else its phase, with Ready when it is."""
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for container in containers:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return str(waiting["reason"])
    if conditions.is_true(status.get("conditions", ()), "Ready"):
        return "Ready"
    return str(status.get("phase", "Unknown"))
