"""Which version is asked for, and which revision that is. Pure: ModelVersions come as the API server gave them.

Must not decide whether to roll it out; it says what is named, whether it exists, and who has rejected it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.domain import reasons
from perennial.domain.revision import Unresolvable, fingerprint, resolve_runtime, revision_hash
from perennial.domain.rollout.smoke import Samples
from perennial.domain.rollout.spec import DeploymentSpec
from perennial.domain.rollout.world import Artifact, Recorded, Rejection, RevisionSeen, Target, Untargeted

ModelVersion = Mapping[str, Any]
_CAMEL_CASE = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")


@dataclass(frozen=True, slots=True)
class Sources:
    """What a target is made of: existing revisions, newest last, and the operator's runtime table."""

    deployment: str
    versions: Mapping[str, ModelVersion]
    revisions: Mapping[str, RevisionSeen]
    runtimes: Mapping[str, Mapping[str, Any]]


def find_target(spec: DeploymentSpec, recorded: Recorded, sources: Sources) -> Target | Untargeted:
    """What the deployment asks for now."""
    if spec.artifact is not None:
        return _as_revision(spec, recorded, sources, _artifact(spec.artifact), None, None)
    name = recorded.chosen_version if spec.update_policy == "Direct" else spec.version
    if name is None:
        return Untargeted(reasons.NO_VERSION_YET, _no_version(spec))
    version = sources.versions.get(name)
    if version is None:
        return Untargeted(
            reasons.VERSION_UNKNOWN,
            f"ModelVersion {name} does not exist in this namespace: commit it, or name one that exists.",
            version=name,
        )
    body = version["spec"]
    if body["model"] != spec.model:
        return Untargeted(
            reasons.VERSION_OF_OTHER_MODEL,
            f'ModelVersion {name} is a version of model "{body["model"]}", not of "{spec.model}": '
            "name a version of this model in spec.model.version.",
            stalled=True,
        )
    return _as_revision(spec, recorded, sources, _artifact(body["artifact"]), name, version)


def find_stable(spec: DeploymentSpec, recorded: Recorded, sources: Sources) -> Target | None:
    """Stable as a revision that can be made again exactly as it was: of its ModelVersion, or of the artifact that the
    spec names. None when the spec or the runtime table would make another revision of that."""
    stable = recorded.stable
    if stable is None:
        return None
    version = sources.versions.get(stable.version or "")
    raw = version["spec"]["artifact"] if version is not None else spec.artifact
    if raw is None or raw["digest"] != stable.digest:
        return None
    made = _as_revision(spec, recorded, sources, _artifact(raw), stable.version, version)
    return made if isinstance(made, Target) and made.revision == stable.revision else None


def accepted(version: ModelVersion) -> bool:
    """Whether a gate with at least one check has passed it."""
    gate = version["spec"].get("gate") or {}
    return bool(gate.get("passed")) and bool(gate.get("checks"))


def rejection_of(version: ModelVersion, deployment: str) -> Rejection | None:
    """The rejection that a ModelVersion records for one deployment."""
    for entry in version["spec"].get("rejections") or ():
        if entry["deployment"] == deployment:
            said = str(entry.get("reason") or "")
            reason = said if _CAMEL_CASE.fullmatch(said) else reasons.CANARY_FAILED  # people may write what they like
            message = entry.get("message") or "its ModelVersion records a rejection for this deployment."
            name = version["metadata"]["name"]
            return Rejection(entry.get("revision") or "", name, reason, message, entry.get("time") or "", recorded=True)
    return None


def choose_directly(
    spec: DeploymentSpec, recorded: Recorded, versions: Iterable[ModelVersion], deployment: str
) -> str | None:
    """With updatePolicy Direct the newest accepted version, never older than the chosen one; None to leave it."""
    if spec.update_policy != "Direct" or recorded.rollout is not None:
        return None
    mine = [v for v in versions if v["spec"]["model"] == spec.model]
    refused = {entry.version for entry in recorded.rejected}
    chosen = next((v for v in mine if v["metadata"]["name"] == recorded.chosen_version), None)
    fit = [
        v
        for v in mine
        if accepted(v)
        and "retired" not in v["spec"]
        and rejection_of(v, deployment) is None
        and v["metadata"]["name"] not in refused
    ]
    newest = max(fit, key=_age_key, default=None)
    if newest is None or newest is chosen or (chosen is not None and _age_key(newest) <= _age_key(chosen)):
        return None
    return str(newest["metadata"]["name"])


def _age_key(version: ModelVersion) -> tuple[str, str]:
    """Newest = highest lineage.finishedTime; without one it is older than any other."""
    lineage = version["spec"].get("lineage") or {}
    return str(lineage.get("finishedTime") or ""), str(version["metadata"]["name"])


def _as_revision(
    spec: DeploymentSpec,
    recorded: Recorded,
    sources: Sources,
    artifact: Artifact,
    name: str | None,
    version: ModelVersion | None,
) -> Target | Untargeted:
    """The revision that already serves this request, whatever the runtime table says today, else a new one."""
    refused = rejection_of(version, sources.deployment) if version is not None else None
    note = _gate_note(name, version) if version is not None else None
    samples = _samples(version) if version is not None else None
    known = _known_revision(spec, recorded, sources, artifact.digest)
    if known is not None:
        return Target(known.revision, name, artifact, known.fingerprint, known.entry, refused, note, samples)
    resolved = resolve_runtime(spec.raw, artifact.format, sources.runtimes)
    if isinstance(resolved, Unresolvable):
        return Untargeted(resolved.reason, resolved.message, stalled=True, version=name)
    asked = fingerprint(spec.raw, artifact.digest) or ""
    revision = revision_hash(spec.raw, artifact.digest, resolved.entry)
    return Target(revision, name, artifact, asked, resolved.entry, refused, note, samples)


def _known_revision(spec: DeploymentSpec, recorded: Recorded, sources: Sources, digest: str) -> RevisionSeen | None:
    """An existing revision that was made for the same request, by the recipe it was made with; stable's first."""
    stable = recorded.stable.revision if recorded.stable else None
    order = sorted(sources.revisions.values(), key=lambda seen: (seen.revision == stable, seen.created), reverse=True)
    for seen in order:
        if seen.digest == digest and fingerprint(spec.raw, digest, recipe=seen.recipe) == seen.fingerprint:
            return seen
    return None


def _artifact(raw: Mapping[str, Any]) -> Artifact:
    return Artifact(raw["uri"], raw["digest"], raw["format"])


def _samples(version: ModelVersion) -> Samples | None:
    found = version["spec"].get("samples")
    return Samples(found["uri"], found["digest"]) if found else None


def _gate_note(name: str | None, version: ModelVersion) -> str | None:
    if accepted(version):
        return None
    gate = version["spec"].get("gate")
    why = "has no gate" if not gate or not gate.get("checks") else "did not pass its gate"
    return f"ModelVersion {name} {why}; it is rolled out because it is named."


def _no_version(spec: DeploymentSpec) -> str:
    if spec.update_policy == "Direct":
        return f'No accepted version of model "{spec.model}" exists yet: the first one is served by itself.'
    if spec.update_policy == "Git":
        return "No version is named yet: the first accepted one is committed to spec.model.version."
    return "No version is named: set spec.model.version (or spec.model.artifact)."
