"""Which version a new one must beat.

Must not guess: an answer that is not certain is Unknown, in words, and the run waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Champion:
    """The answer. state None: certainly no champion; Unknown: wait; Ambiguous: a person must choose."""

    state: Literal["Known", "None", "Unknown", "Ambiguous"]
    version: str = ""
    digest: str = ""
    uri: str = ""
    message: str = ""


NO_CHAMPION = Champion("None")


def choose(
    spec: Mapping[str, Any],
    deployments: Sequence[Mapping[str, Any]],
    versions: Mapping[str, Mapping[str, Any]],
) -> Champion:
    """The champion of a TrainingJob spec.

    deployments: a live list of the namespace's ModelDeployments; versions: the ModelVersions by name that they name.
    """
    wanted = ((spec.get("champion") or {}).get("deploymentRef") or {}).get("name")
    if wanted:
        named = [d for d in deployments if d["metadata"]["name"] == wanted]
        if not named:
            return Champion("Unknown", message=f"ModelDeployment {wanted}, named by spec.champion, does not exist")
        return _of(named[0], versions)
    same = [d for d in deployments if ((d.get("spec") or {}).get("model") or {}).get("name") == spec.get("model")]
    if not same:
        return NO_CHAMPION
    if len(same) > 1:
        names = ", ".join(sorted(d["metadata"]["name"] for d in same)[:10])
        return Champion(
            "Ambiguous",
            message=f"several ModelDeployments serve model {spec.get('model')} ({names}); "
            "name one in spec.champion.deploymentRef",
        )
    return _of(same[0], versions)


def named_version(deployment: Mapping[str, Any]) -> str:
    """The version that a ModelDeployment has as stable, else the one it names; "" when neither."""
    status = deployment.get("status") or {}
    model = (deployment.get("spec") or {}).get("model") or {}
    stable = (status.get("stable") or {}).get("version")
    return str(stable or model.get("version") or status.get("chosenVersion") or "")


def _of(deployment: Mapping[str, Any], versions: Mapping[str, Mapping[str, Any]]) -> Champion:
    name = named_version(deployment)
    if not name:
        artifact = ((deployment.get("spec") or {}).get("model") or {}).get("artifact") or {}
        stable = (deployment.get("status") or {}).get("stable") or {}
        if artifact.get("uri") and (not stable.get("digest") or stable.get("digest") == artifact.get("digest")):
            return Champion("Known", "", str(artifact.get("digest") or ""), str(artifact["uri"]))
        return NO_CHAMPION
    version = versions.get(name)
    if version is None:
        owner = deployment["metadata"]["name"]
        return Champion("Unknown", message=f"ModelVersion {name}, which ModelDeployment {owner} names, does not exist")
    artifact = version["spec"]["artifact"]
    return Champion("Known", name, artifact["digest"], artifact["uri"])
