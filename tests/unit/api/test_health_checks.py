"""What Argo CD and Flux make of our objects: their own scripts, run by a Lua and by a CEL interpreter.

Argo CD runs Lua 5.1 (gopher-lua), so the tests do. What our decisions really write is in test_health_of_decisions.py.
"""

from typing import Any

import pytest
import yaml
from cel_expr_python import cel
from lupa import lua51

from perennial.api.crdgen import ROOT
from perennial.api.kinds import OUR_KINDS

ARGO = yaml.safe_load((ROOT / "manifests/argocd/argocd-cm.yaml").read_text(encoding="utf-8"))["data"]
FLUX = {
    check["kind"]: check
    for check in yaml.safe_load((ROOT / "manifests/flux/kustomization-patch.yaml").read_text(encoding="utf-8"))["spec"][
        "healthCheckExprs"
    ]
}
KINDS = [kind.kind for kind in OUR_KINDS]


def observed(*conditions: tuple[str, str], generation: int = 2, seen: int = 2, **spec: Any) -> dict[str, Any]:
    """An object of which the operator has seen the generation `seen` and on which it put `conditions`."""
    return {
        "metadata": {"name": "rain", "generation": generation},
        "spec": {"suspend": False, **spec},
        "status": {
            "observedGeneration": seen,
            "conditions": [
                {"type": type_, "status": status, "message": f"About {type_}."} for type_, status in conditions
            ],
        },
    }


FRESH = {"metadata": {"generation": 1}, "spec": {}, "status": {"observedGeneration": -1}}
CASES = {
    "not seen yet": (FRESH, "Progressing", "inProgress"),
    "an older generation was seen": (observed(("Ready", "True"), seen=1), "Progressing", "inProgress"),
    "ready": (observed(("Ready", "True")), "Healthy", "current"),
    "working": (observed(("Ready", "False"), ("Reconciling", "True")), "Progressing", "inProgress"),
    "needs a person": (observed(("Ready", "False"), ("Stalled", "True")), "Degraded", "failed"),
    "failed canary": (
        observed(("Available", "True"), ("Ready", "False"), ("Stalled", "True")),
        "Degraded",
        "failed",
    ),
    "drift is not unhealthy": (
        observed(("DataHealthy", "False"), ("DriftDetected", "True"), ("Ready", "True")),
        "Healthy",
        "current",
    ),
    "a running training is healthy": (observed(("GatePassed", "Unknown"), ("Ready", "True")), "Healthy", "current"),
    "unknown": (observed(("Ready", "Unknown")), "Progressing", ""),
    "suspended": (observed(("Ready", "True"), suspend=True), "Suspended", "current"),
}


def table(runtime: lua51.LuaRuntime, value: Any) -> Any:
    """`value` as Lua sees it: lists and maps are tables, lists count from 1."""
    if isinstance(value, dict):
        return runtime.table_from({key: table(runtime, entry) for key, entry in value.items()})
    if isinstance(value, list):
        return runtime.table_from([table(runtime, entry) for entry in value])
    return value


def argo_health(kind: str, whole: dict[str, Any]) -> tuple[str, str]:
    runtime = lua51.LuaRuntime()
    script = ARGO[f"resource.customizations.health.perennial.dev_{kind}"]
    result = runtime.eval(f"function(obj)\n{script}\nend")(table(runtime, whole))
    return result["status"], result["message"]


def flux_health(kind: str, whole: dict[str, Any]) -> str:
    """As Flux asks: the generation first, then its three expressions in order; "" when none holds, which is waiting."""
    if whole["status"]["observedGeneration"] != whole["metadata"]["generation"]:
        return "inProgress"
    environment = cel.NewEnv(variables={"status": cel.Type.DYN, "spec": cel.Type.DYN, "metadata": cel.Type.DYN})
    for outcome in ("inProgress", "failed", "current"):
        if environment.compile(FLUX[kind][outcome]).eval(data=whole).value() is True:
            return outcome
    return ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_argo_cd_sees(case: str, kind: str):
    whole, expected, _ = CASES[case]
    assert argo_health(kind, whole)[0] == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_flux_sees(case: str, kind: str):
    whole, _, expected = CASES[case]
    assert flux_health(kind, whole) == expected


def test_flux_waits_while_there_are_no_conditions():
    whole = {**FRESH, "status": {"observedGeneration": 1}}
    assert flux_health("GitSync", whole) == "inProgress"


def test_argo_cd_shows_the_sentence_of_the_condition():
    assert argo_health("ModelDeployment", CASES["needs a person"][0]) == ("Degraded", "About Stalled.")


@pytest.mark.parametrize(("generation", "health"), [(1, "Progressing"), (2, "Degraded")])
def test_argo_cd_shows_why_a_pass_could_not_end_of_this_generation_only(generation: int, health: str):
    """Then status.observedGeneration stays behind, for nothing else in status is about the new one."""
    whole = observed(("Ready", "False"), ("Stalled", "True"), seen=1)
    for condition in whole["status"]["conditions"]:
        condition["observedGeneration"] = generation
    assert argo_health("ModelDeployment", whole)[0] == health


def test_every_kind_has_both_checks():
    assert set(FLUX) == set(KINDS)
    assert set(ARGO) == {f"resource.customizations.health.perennial.dev_{kind}" for kind in KINDS}
    assert {check["apiVersion"] for check in FLUX.values()} == {"perennial.dev/v1alpha1"}
