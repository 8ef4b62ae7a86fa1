"""The containers and volumes of a training pod: what each sees, and nothing more.

`train` never sees Evaluate data nor store credentials; our own containers see everything below /perennial. All of it
lies on one volume, of which the user's containers mount single folders. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perennial.domain.training.run import canonical_json, job_name
from perennial.domain.training.state import Stage
from perennial.render.training_containers import (
    BARRIER_PORT,
    CLAIMS,
    RENDEZVOUS_PORT,
    RESOLUTION,
    ROOT,
    Attempt,
    Plan,
    StepImage,
    claims_of,
    dataset_item,
    half,
    has_accelerator,
    hyperparameters_json,
    part_of,
    without_accelerators,
)

_WORK, _TMP, _SHM = "perennial-work", "perennial-tmp", "perennial-shm"
_STEP_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
_RANK_ZERO_ONLY = '[ "${JOB_COMPLETION_INDEX:-0}" = 0 ] || exit 0; '
_KEEP_EXIT_CODE = f'"$@"; echo $? > {ROOT}/evaluation/exit-code; exit 0'


@dataclass(frozen=True, slots=True)
class _Builder:
    """Builds the containers of one pod of one attempt."""

    attempt: Attempt
    stage: Stage
    step: StepImage
    claims: Mapping[str, bool] = field(default_factory=dict)  # claim -> whether it is written to

    # --- our own containers -------------------------------------------------------------------------------------

    def step_container(self, verb: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """A container of ours: all of /perennial, the claims, the store's credentials, a read-only root."""
        container: dict[str, Any] = {
            "name": verb,
            "image": self.step.image,
            "imagePullPolicy": self.step.pull_policy,
            "command": ["perennial", "step", verb],
            "env": [
                {"name": "PERENNIAL_STEP", "value": canonical_json(given)},
                {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of this pod alone
                {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
            ],
            "resources": _STEP_RESOURCES,
            "securityContext": {**_container_security(), "readOnlyRootFilesystem": True},
            "terminationMessagePolicy": "File",
            "volumeMounts": [
                self.mount("", ROOT),
                {"name": _TMP, "mountPath": "/tmp"},  # noqa: S108
                *self.claim_mounts(),
            ],
        }
        secret = ((self.attempt.spec.get("storage") or {}).get("secretRef") or {}).get("name")
        if secret:
            container["envFrom"] = [{"secretRef": {"name": secret}}]
        return container

    def mount(self, folder: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
        """A folder of the work volume, mounted at `path`."""
        made: dict[str, Any] = {"name": _WORK, "mountPath": path}
        parts = [part for part in (self.prefix, folder) if part]
        if parts:
            made["subPath"] = "/".join(parts)
        if read_only:
            made["readOnly"] = True
        return made

    @property
    def prefix(self) -> str:
        """Where on a shared claim this run lies; "" in a pod of its own."""
        return f"{self.attempt.owner_name}-run-{self.attempt.run_id}" if self.stage else ""

    def claim_mounts(self) -> list[dict[str, Any]]:
        """The claims that pvc:// URIs name, for our containers."""
        mounts = []
        for number, (claim, writable) in enumerate(sorted(self.claims.items())):
            made: dict[str, Any] = {"name": f"perennial-claim-{number}", "mountPath": f"{CLAIMS}/{claim}"}
            if not writable:
                made["readOnly"] = True
            mounts.append(made)
        return mounts

    def volumes(self, *, user: bool) -> list[dict[str, Any]]:
        """All volumes of the pod; `user`: it has containers of the user."""
        spec = self.attempt.spec
        work: dict[str, Any] = {"name": _WORK, "emptyDir": {}}
        if self.stage:
            work = {"name": _WORK, "persistentVolumeClaim": {"claimName": spec["stage"]["claim"]}}
        made = [work, {"name": _TMP, "emptyDir": {}}]
        for number, claim in enumerate(sorted(self.claims)):
            made.append({"name": f"perennial-claim-{number}", "persistentVolumeClaim": {"claimName": claim}})
        if user:
            shared: dict[str, Any] = {"medium": "Memory"}
            size = spec.get("sharedMemory") or half((part_of(spec, "limits")).get("memory"))
            if size:
                shared["sizeLimit"] = str(size)
            made.append({"name": _SHM, "emptyDir": shared})
            made.extend((spec.get("template") or {}).get("volumes") or ())
        return made

    def fetch(self) -> dict[str, Any]:
        attempt, spec = self.attempt, self.attempt.spec
        pinned = {item["name"]: item for item in attempt.run.get("datasets") or ()}
        items = [dataset_item(dataset, pinned.get(dataset["name"])) for dataset in spec["datasets"]]
        if attempt.base:
            items.append({"kind": "base", "name": "base", "path": f"{ROOT}/base", **attempt.base})
        if attempt.champion and not attempt.champion_problem:
            items.append(
                {
                    "kind": "champion",
                    "name": "champion",
                    "path": f"{ROOT}/champion",
                    "optional": True,
                    **attempt.champion,
                }
            )
        folders = ["output", "checkpoint", "base", "evaluation/candidate", "evaluation/champion"]
        given: dict[str, Any] = {
            "items": items,
            "directories": [f"{ROOT}/{folder}" for folder in folders],
            "writes": {f"{ROOT}/hyperparameters.json": hyperparameters_json(spec.get("hyperparameters") or {})},
            "resolution": RESOLUTION,
            "claims": CLAIMS,
        }
        if self.stage:
            given["clear"] = [f"{ROOT}/output", f"{ROOT}/evaluation"]
        elif attempt.nodes > 1:
            given["barrier"] = self.barrier()
        return self.step_container("fetch", given)

    def barrier(self) -> dict[str, Any]:
        return {
            "nodes": self.attempt.nodes,
            "address": self.master,
            "port": BARRIER_PORT,
            "seconds": int(self.attempt.spec.get("startSeconds", 600)),
        }

    @property
    def master(self) -> str:
        """The name of rank 0's pod."""
        name = job_name(self.attempt.owner_name, self.attempt.run_id, self.attempt.number, self.stage)
        return f"{name}-0.{name}"

    def publish(self) -> dict[str, Any]:
        attempt, spec = self.attempt, self.attempt.spec
        given: dict[str, Any] = {
            "version": attempt.version,
            "model": spec["model"],
            "maker": attempt.maker,
            "attempt": attempt.number,
            "format": spec["output"]["format"],
            "output": spec["output"]["uri"],
            "source": f"{ROOT}/output",
            "resolution": RESOLUTION,
            "claims": CLAIMS,
        }
        if spec.get("evaluate"):
            given["evaluated"] = f"{ROOT}/evaluation/candidate/metrics.json"
        if attempt.champion and attempt.champion_problem:
            given["champion"] = {"problem": attempt.champion_problem[:500]}
        elif attempt.champion:
            folder = f"{ROOT}/evaluation/champion"
            given["champion"] = {"metrics": f"{folder}/metrics.json", "failed": f"{ROOT}/champion.failed"}
            if _command(spec):
                given["champion"]["exitCode"] = f"{folder}/exit-code"
        if self.stage:
            given["remove"] = [f"{ROOT}/data", f"{ROOT}/base", f"{ROOT}/champion"]
        return self.step_container("publish", given)

    # --- the user's containers ----------------------------------------------------------------------------------

    def user_container(
        self, name: str, program: Mapping[str, Any], *, accelerated: bool, uses: Sequence[str], env: Mapping[str, str]
    ) -> dict[str, Any]:
        """A container of the user's image. uses: which datasets it sees, by their `use`."""
        spec = self.attempt.spec
        extras = spec.get("template") or {}
        resources = spec.get("resources") or {}
        if not accelerated:
            resources = without_accelerators(resources)
        injected = {**self._environment(name), **env}
        if not has_accelerator(resources):
            injected["NVIDIA_VISIBLE_DEVICES"] = "void"
        own = [dict(entry) for entry in spec.get("env") or ()]
        taken = {entry["name"] for entry in own if not entry["name"].startswith("PERENNIAL_")}
        variables = [{"name": key, "value": value} for key, value in injected.items() if key not in taken]
        container: dict[str, Any] = {
            "name": name,
            "image": self.image(program),
            "env": [*variables, *(_rank_variables(self) if name == "train" else []), *_own(own)],
            "resources": resources,
            "securityContext": _container_security(),
            "volumeMounts": [
                *self._data_mounts(uses),
                self.mount("hyperparameters.json", f"{ROOT}/hyperparameters.json", read_only=True),
                {"name": _SHM, "mountPath": "/dev/shm"},  # noqa: S108
                *(extras.get("volumeMounts") or ()),
            ],
        }
        container.update({key: list(program[key]) for key in ("command", "args") if program.get(key)})
        if extras.get("envFrom"):
            container["envFrom"] = list(extras["envFrom"])
        return container

    def image(self, program: Mapping[str, Any]) -> str:
        """The image of a container; the training image is pinned by the first attempt's digest when it has one."""
        if program.get("image") and program["image"] != self.attempt.spec["image"]:
            return str(program["image"])
        seen = str(self.attempt.run.get("imageDigest") or "")
        return seen if "@sha256:" in seen else str(self.attempt.spec["image"])

    def _environment(self, name: str) -> dict[str, str]:
        spec = self.attempt.spec
        repro = spec.get("reproducibility") or {}
        made = {
            "HOME": "/tmp",  # noqa: S108
            "PERENNIAL_MODEL": str(spec["model"]),
            "PERENNIAL_RUN": self.attempt.run_id,
            "PERENNIAL_STEP_NAME": name,
            "PERENNIAL_SEED": str(repro.get("seed", 0)),
            "PYTHONHASHSEED": str(repro.get("seed", 0)),
        }
        if repro.get("deterministic"):
            made["PERENNIAL_DETERMINISTIC"] = "1"
            made["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
            made["TF_DETERMINISTIC_OPS"] = "1"
        for key, value in sorted((spec.get("hyperparameters") or {}).items()):
            made["PERENNIAL_HP_" + re.sub(r"[^A-Z0-9]", "_", key.upper())] = value
        return made

    def _data_mounts(self, uses: Sequence[str]) -> list[dict[str, Any]]:
        return [
            self.mount(f"data/{dataset['name']}", f"{ROOT}/data/{dataset['name']}", read_only=True)
            for dataset in self.attempt.spec["datasets"]
            if dataset.get("use", "Train") in uses
        ]

    def validate(self) -> dict[str, Any]:
        program = self.attempt.spec["validate"]
        return self.user_container("validate", program, accelerated=False, uses=("Train", "Evaluate", "Both"), env={})

    def train(self) -> dict[str, Any]:
        made = self.user_container(
            "train",
            self.attempt.spec,
            accelerated=True,
            uses=("Train", "Both"),
            env={"PERENNIAL_OUTPUT_DIR": f"{ROOT}/output"},
        )
        made["volumeMounts"][:0] = [
            self.mount("output", f"{ROOT}/output"),
            self.mount("checkpoint", f"{ROOT}/checkpoint"),
            *([self.mount("base", f"{ROOT}/base", read_only=True)] if self.attempt.base else []),
        ]
        return made

    def evaluate(self, *, champion: bool) -> dict[str, Any]:
        model = "champion" if champion else "output"
        env = {
            "PERENNIAL_MODEL_DIR": f"{ROOT}/{model}",
            "PERENNIAL_METRICS_FILE": f"{ROOT}/evaluation/metrics.json",
        }
        made = self.user_container(
            "evaluate-champion" if champion else "evaluate",
            self.attempt.spec["evaluate"],
            accelerated=not self.stage,
            uses=("Evaluate", "Both"),
            env=env,
        )
        made["volumeMounts"][:0] = [
            self.mount(model, f"{ROOT}/{model}", read_only=True),
            self.mount(f"evaluation/{'champion' if champion else 'candidate'}", f"{ROOT}/evaluation"),
        ]
        return self._wrapped(made, champion=champion)

    def _wrapped(self, made: dict[str, Any], *, champion: bool) -> dict[str, Any]:
        """Only rank 0 evaluates, and a champion that cannot be evaluated must not fail the candidate.

        Both need a shell in the user's image, and a command to wrap: an image's own entry point cannot be seen here.
        """
        program = _command(self.attempt.spec)
        script = _RANK_ZERO_ONLY if self.attempt.nodes > 1 and not self.stage else ""
        script += _KEEP_EXIT_CODE if champion else 'exec "$@"'
        if not program or (not champion and script == 'exec "$@"'):
            return made
        made["command"] = ["/bin/sh", "-c", script, made["name"], *program]
        made.pop("args", None)
        return made


def _command(spec: Mapping[str, Any]) -> list[str]:
    evaluate = spec.get("evaluate") or {}
    return [*evaluate["command"], *(evaluate.get("args") or ())] if evaluate.get("command") else []


def _own(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(entry) for entry in entries if not entry["name"].startswith("PERENNIAL_")]


def _rank_variables(builder: _Builder) -> list[dict[str, Any]]:
    """torchrun's environment (PET_*), when there is more than one process."""
    attempt = builder.attempt
    processes = int(attempt.spec.get("processesPerNode", 1))
    if attempt.nodes == 1 and processes == 1:
        return []
    address = builder.master if attempt.nodes > 1 else "localhost"
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    return [
        {"name": "PET_NNODES", "value": str(attempt.nodes)},
        {"name": "PET_NPROC_PER_NODE", "value": str(processes)},
        {"name": "PET_NODE_RANK", "valueFrom": index},
        {"name": "PET_MASTER_ADDR", "value": address},
        {"name": "PET_MASTER_PORT", "value": str(RENDEZVOUS_PORT)},
        {"name": "MASTER_ADDR", "value": address},
        {"name": "MASTER_PORT", "value": str(RENDEZVOUS_PORT)},
    ]


def _container_security() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def plan_of(attempt: Attempt, stage: Stage, step: StepImage) -> Plan:
    """The pod of a stage; see design "Pod" and "Stage"."""
    build = _Builder(attempt, stage, step, claims_of(attempt))
    spec = attempt.spec
    evaluations = []
    if spec.get("evaluate"):
        evaluations.append(build.evaluate(champion=False))
        if attempt.champion and not attempt.champion_problem:
            evaluations.append(build.evaluate(champion=True))
    validations = [build.validate()] if spec.get("validate") else []
    if stage == "fetch":
        order = [build.fetch(), *validations]
        return Plan(order[:-1], order[-1], build.volumes(user=bool(validations)))
    if stage == "train":
        meeting = []
        if attempt.nodes > 1:
            meeting = [build.step_container("fetch", {"items": [], "barrier": build.barrier()})]
        return Plan(meeting, build.train(), build.volumes(user=True), attempt.nodes)
    if stage == "publish":
        return Plan(evaluations, build.publish(), build.volumes(user=bool(evaluations)))
    init = [build.fetch(), *validations, build.train(), *evaluations]
    return Plan(init, build.publish(), build.volumes(user=True), attempt.nodes)


def report_plan(attempt: Attempt, step: StepImage) -> Plan:
    """The pod of a report Job: it reads the store and nothing else."""
    output = str(attempt.spec["output"]["uri"])
    claims = {output.removeprefix("pvc://").split("/")[0]: False} if output.startswith("pvc://") else {}
    build = _Builder(attempt, "", step, claims)
    given = {
        "output": output,
        "model": attempt.spec["model"],
        "version": attempt.version,
        "maker": attempt.maker,
        "attempt": attempt.number,
        "claims": CLAIMS,
    }
    return Plan([], build.step_container("report", given), build.volumes(user=False))
