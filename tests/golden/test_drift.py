"""The children of a DriftPolicy, byte for byte: a changed line here changes what runs in people's clusters."""

from typing import Any

import pytest

from perennial.api.v1alpha1.training_job import TrainingJobSpec
from perennial.domain.drift.state import decode, encode
from perennial.domain.drift.trigger import job_name
from perennial.domain.drift.windows import Book
from perennial.render.drift import book_config_map, probe_job, probe_number, retraining_job
from perennial.render.training_containers import StepImage
from tests.golden.test_training_jobs import FULL, MINIMAL
from tests.support.golden import as_yaml, check

STEP = StepImage("registry/perennial:0.1.0")
POLICY: dict[str, Any] = {
    "apiVersion": "perennial.dev/v1alpha1",
    "kind": "DriftPolicy",
    "metadata": {"name": "rain-prediction", "namespace": "models", "uid": "uid-1", "labels": {"team": "weather"}},
}
TRIGGER = {"id": "3f9a2c1b", "kind": "Drift", "reason": "prediction 0.287", "trainingJob": "rain-prediction-3f9a2c1b"}
CLAIM: dict[str, Any] = {
    **FULL,
    "datasets": [
        {"name": "train", "uri": "pvc://labels/train/", "use": "Train"},
        {"name": "newest", "uri": "pvc://other/eval/", "use": "Evaluate"},
    ],
}


@pytest.mark.parametrize(("name", "spec"), [("minimal", MINIMAL), ("full", CLAIM)])
def test_children_are_rendered_as_committed(name: str, spec: dict[str, Any]) -> None:
    template = {"metadata": {"name": "rain-train"}, "spec": {**spec, "suspend": True}}
    made = [probe_job(POLICY, template, 42, STEP), retraining_job(POLICY, template, TRIGGER)]
    check(f"drift/{name}.yaml", as_yaml(made))


def test_a_retrain_copies_the_whole_spec_but_its_request() -> None:
    old = {**FULL, "suspend": True, "request": {"id": "old"}}
    made = retraining_job(POLICY, {"spec": old}, TRIGGER)
    assert {k: v for k, v in made["spec"].items() if k not in ("request", "suspend")} == FULL
    assert made["spec"]["suspend"] is False
    assert TrainingJobSpec.model_validate(made["spec"]).request is not None
    assert "team" not in made["metadata"]["labels"], "children never copy the parent's labels"


def test_only_probes_of_the_policy_are_its_probes() -> None:
    assert probe_number("rain", "rain-probe-12") == 12
    assert probe_number("rain", "rain-probe-x") is None
    assert probe_number("rain", "snow-probe-12") is None
    assert probe_number("rain", "rain-3f9a2c1b") is None


def test_names_fit_unshortened() -> None:
    policy = {**POLICY, "metadata": {**POLICY["metadata"], "name": "p" * 30}}
    job = probe_job(policy, {"spec": MINIMAL}, 4_102_444_800, STEP)
    assert len(job["metadata"]["name"]) <= 63
    assert len(job_name("p" * 30, TRIGGER["id"])) <= 40


def test_the_book_is_kept_in_binary_data() -> None:
    made = book_config_map(POLICY, encode(Book(scores=({"end": 1},))))
    assert made["metadata"]["name"] == "rain-prediction-drift"
    assert decode(made["binaryData"]["state"]).scores == ({"end": 1},)
