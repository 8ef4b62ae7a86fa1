"""What a training pod is rendered from: the attempt, our image, paths, and small facts about datasets and resources.

Pure. The containers themselves are built in training_plan.py.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.domain.training.failure import CHAMPION_EVALUATION
from perennial.domain.training.run import canonical_json, version_name
from perennial.domain.training.usage import is_accelerator

ROOT = "/perennial"
CLAIMS = f"{ROOT}/pvc"
RENDEZVOUS_PORT = 29500
BARRIER_PORT = 29400
RESOLUTION = f"{ROOT}/resolved.json"

_QUANTITY = re.compile(r"([0-9.]+)([A-Za-z]*)\Z")


@dataclass(frozen=True, slots=True)
class StepImage:
    """The image of our own containers."""

    image: str
    pull_policy: str = "IfNotPresent"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is rendered. owner: the TrainingJob; run: its status.run; champion, base: {uri, digest} or None."""

    owner: Mapping[str, Any]
    run: Mapping[str, Any]
    champion: Mapping[str, str] | None = None
    base: Mapping[str, str] | None = None

    @property
    def spec(self) -> Mapping[str, Any]:
        """The TrainingJob's spec."""
        spec: Mapping[str, Any] = self.owner["spec"]
        return spec

    @property
    def owner_name(self) -> str:
        """The TrainingJob's name."""
        return str(self.owner["metadata"]["name"])

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.run["id"])

    @property
    def number(self) -> int:
        """The attempt, from 1."""
        return int(self.run["attempt"])

    @property
    def maker(self) -> str:
        """Which TrainingJob object it is, in eight digits of its uid."""
        return str(self.owner["metadata"]["uid"])[:8]

    @property
    def version(self) -> str:
        """The ModelVersion that the run makes."""
        return version_name(str(self.spec["model"]), self.run_id)

    @property
    def champion_problem(self) -> str:
        """Why the champion cannot be evaluated, when that killed the attempt before; "" when it can be tried."""
        failure = self.run.get("failure") or {}
        return str(failure.get("message") or "") if failure.get("container") == CHAMPION_EVALUATION else ""

    @property
    def nodes(self) -> int:
        """Pods that train together."""
        return int(self.spec.get("nodes", 1))


@dataclass(frozen=True, slots=True)
class Plan:
    """A pod: init containers in order, the main container, volumes; nodes: how many pods."""

    init: list[dict[str, Any]]
    main: dict[str, Any]
    volumes: list[dict[str, Any]]
    nodes: int = 1


def without_accelerators(resources: Mapping[str, Any]) -> dict[str, Any]:
    """The same resources without any accelerator."""
    return {
        part: {name: amount for name, amount in amounts.items() if not is_accelerator(name)}
        for part, amounts in resources.items()
        if isinstance(amounts, Mapping)
    }


def has_accelerator(resources: Mapping[str, Any]) -> bool:
    """Whether any accelerator is asked for."""
    return any(is_accelerator(name) for amounts in resources.values() for name in amounts)


def half(quantity: Any) -> str:
    """Half of a memory quantity with its own unit, e.g. 3Gi -> 1.5Gi; "" when there is none."""
    match = _QUANTITY.match(str(quantity or ""))
    return f"{float(match[1]) / 2:g}{match[2]}" if match else ""


def part_of(spec: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """spec.resources.<part>, {} when it is not set."""
    found: Mapping[str, Any] = (spec.get("resources") or {}).get(part) or {}
    return found


def _parsed(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError:
        return text


def hyperparameters_json(hyperparameters: Mapping[str, str]) -> str:
    """The text of hyperparameters.json: values that parse as JSON are JSON, others are strings."""
    return canonical_json({name: _parsed(value) for name, value in hyperparameters.items()})


def claims_of(attempt: Attempt) -> dict[str, bool]:
    """The claims that the pvc:// URIs of an attempt name, and whether each is written to."""
    read = [dataset["uri"] for dataset in attempt.spec["datasets"]]
    read += [model["uri"] for model in (attempt.base, attempt.champion) if model]
    claims = {uri.removeprefix("pvc://").split("/")[0]: False for uri in read if uri.startswith("pvc://")}
    output = str(attempt.spec["output"]["uri"])
    if output.startswith("pvc://"):
        claims[output.removeprefix("pvc://").split("/")[0]] = True
    return claims


def dataset_item(dataset: Mapping[str, Any], pinned: Mapping[str, Any] | None) -> dict[str, Any]:
    """What fetch gets for a dataset: what the first attempt resolved, else the reference of the spec."""
    item: dict[str, Any] = {
        "kind": "dataset",
        "name": dataset["name"],
        "path": f"{ROOT}/data/{dataset['name']}",
        "uri": dataset["uri"],
        "moving": True,
    }
    if dataset.get("digest"):
        item["digest"] = dataset["digest"]
    if pinned and pinned.get("digest"):
        item.update(uri=pinned.get("uri") or dataset["uri"], digest=pinned["digest"], moving=not pinned.get("uri"))
    return item
