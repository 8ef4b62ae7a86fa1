"""Whether any request fails while models are rolled out, and whether canaries get exactly their weight.

A pod sends 200 requests a second all the time. Meanwhile each scenario is played three times, over the weights 5, 25,
50 and 100: promotion; abort of a model that fails for a fifth of its requests; a new model in the middle of a rollout;
a router pod deleted, with its grace, in the middle; the operator killed in the middle. Old models are scaled down
meanwhile. An answer that a server gave is no failure of the rollout, whatever it says: servers name their model in
every answer. Everything else that is not 200 is. Last, the share of a canary over 10,000 requests is compared with its
weight.
"""

import argparse
import asyncio
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import served, support
from benchmarks.served import Json, Model, Place, Serving
from perennial.api import kinds
from perennial.domain import conditions

RUNS = 3
RATE = 200
SHARE_REQUESTS = 10_000
WEIGHTS = (5, 25, 50)
MIDDLE = 25
RUN_SECONDS = 180
REST_SECONDS = 120
SHARE_SECONDS = 300
KEPT = 50
CLIENT = "seconds"
SCENARIOS = ("promotion", "abort", "midway", "router_kill", "operator_kill")
STEPS = {"steps": [{"weight": weight} for weight in WEIGHTS]}
ANALYSIS = {"warmupSeconds": 1, "minRequests": 20, "maxErrorRate": "0.05"}
HOW = (
    "{rate} requests/s while each scenario is played {runs} times over 5, 25, 50, 100 %; failed_* counts requests that "
    "no server answered; weight_*_share is a canary's share of {count} requests, *_deviations its distance from the "
    "weight in standard deviations."
)


@dataclass
class Player:
    """Plays scenarios, each with models of its own."""

    where: Place
    serving: Serving
    models: Iterator[Model]
    bad_models: Iterator[Model]

    async def promoted(self, model: Model) -> None:
        """Until it serves alone."""

        def alone(status: Json) -> bool:
            stable = (status.get("stable") or {}).get("digest")
            return "rollout" not in status and bool(stable == model.artifact["digest"])

        await self.serving.until(f"the promotion of model {model.run}", alone, RUN_SECONDS)

    async def in_the_middle(self) -> Model:
        """A new model whose canary has the weight of the middle."""
        model = next(self.models)

        def reached(status: Json) -> bool:
            canary = status.get("canary") or {}
            return canary.get("digest") == model.artifact["digest"] and int(canary.get("weight", 0)) >= MIDDLE

        await self.serving.name(model)
        await self.serving.until(f"the middle of model {model.run}", reached, RUN_SECONDS)
        return model

    async def promotion(self) -> None:
        """A good model."""
        model = next(self.models)
        await self.serving.name(model)
        await self.promoted(model)

    async def abort(self) -> Json:
        """A bad model; its revision and when status said that it was withdrawn."""
        model = next(self.bad_models)

        def withdrawn(status: Json) -> bool:
            rollout = status.get("rollout") or {}
            return rollout.get("digest") == model.artifact["digest"] and rollout["state"] == "Withdrawing"

        await self.serving.name(model)
        status = await self.serving.until(f"the abort of model {model.run}", withdrawn, RUN_SECONDS)
        rollout = status["rollout"]
        await self.serving.settled(60)
        return {"revision": rollout["targetRevision"], "verdict": served.epoch(rollout["stateTime"])}

    async def midway(self) -> None:
        """Another model while one is in the middle."""
        await self.in_the_middle()
        await self.promotion()

    async def router_kill(self) -> None:
        """A router is deleted, as in a drain of its node."""
        model = await self.in_the_middle()
        await self._delete({"perennial.dev/component": "router"}, None)
        await self.promoted(model)
        await self.whole("perennial-router")

    async def operator_kill(self) -> None:
        """The operator ends without a word."""
        model = await self.in_the_middle()
        await self._delete({"app.kubernetes.io/component": "operator"}, 0)
        await self.promoted(model)
        await self.whole("perennial-operator")

    async def _delete(self, labels: Mapping[str, str], grace: int | None) -> None:
        chosen = ",".join(f"{key}={value}" for key, value in labels.items())
        pods = await self.serving.store.list(kinds.POD, self.where.namespace, labels=chosen)
        name, uid = next(
            (pod["metadata"]["name"], pod["metadata"]["uid"])
            for pod in pods
            if not pod["metadata"].get("deletionTimestamp")
            and conditions.is_true(pod["status"].get("conditions", ()), "Ready")
        )
        await self.serving.store.delete(kinds.POD, self.where.namespace, name, uid=uid, grace_seconds=grace)

    async def whole(self, deployment: str) -> None:
        """Until a Deployment has all its pods and none more."""
        end = time.monotonic() + REST_SECONDS
        while time.monotonic() < end:
            found = await self.serving.store.get(kinds.DEPLOYMENT, self.where.namespace, deployment) or {}
            status = found.get("status") or {}
            pods = await self.serving.store.list(kinds.POD, self.where.namespace)
            here = [pod for pod in pods if pod["metadata"]["name"].startswith(deployment)]
            if len(here) == found["spec"]["replicas"] == status.get("readyReplicas"):
                return
            await asyncio.sleep(0.5)
        raise support.BenchmarkError(f"Deployment {deployment} was not whole within {REST_SECONDS} s")

    async def rest(self) -> None:
        """Until the old models' pods are gone: their end belongs to what is measured."""
        end = time.monotonic() + REST_SECONDS
        while time.monotonic() < end:
            pods = await self.serving.store.list(
                kinds.POD, self.where.namespace, labels="perennial.dev/component=server"
            )
            if len(pods) == 1:
                return
            await asyncio.sleep(0.5)
        raise support.BenchmarkError(f"old models still had pods after {REST_SECONDS} s")

    async def weights(self) -> Json:
        """The share of a canary at each weight."""
        stable, canary = await self._last(), next(self.models)
        found: Json = {}
        for weight in WEIGHTS:
            await self.serving.patch({"rollout": {"steps": [{"weight": weight, "holdSeconds": 3600}]}})
            await self.serving.name(canary)

            def verified(status: Json, wanted: int = weight) -> bool:
                rollout = status.get("rollout") or {}
                return rollout.get("weight") == wanted and bool(rollout.get("weightVerifiedTime"))

            status = await self.serving.until(f"weight {weight}", verified, RUN_SECONDS)
            pod = self.where.client("share", name=f"client-share-{weight}", COUNT=str(SHARE_REQUESTS))
            await asyncio.to_thread(self.where.wait, pod, served.SUCCEEDED, SHARE_SECONDS)
            (line,) = self.where.lines(pod)
            found[str(weight)] = _share(weight, status["rollout"]["targetRevision"], line)
            await self.serving.name(stable)
            await self.serving.settled(60)
        return found

    async def _last(self) -> Model:
        """A model that serves, and will be named again and again."""
        model = next(self.models)
        await self.serving.name(model)
        await self.promoted(model)
        return model


def _share(weight: int, revision: str, line: Json) -> Json:
    """deviations: of the count from what the weight asks for, in standard deviations of the binomial distribution."""
    requests, canary, share = int(line["requests"]), int(line["by"].get(revision, 0)), weight / 100
    deviation = math.sqrt(requests * share * (1 - share))
    unanswered = int(line["by"].get("none", 0))
    return {
        "requests": requests,
        "canary": canary,
        "share": canary / requests,
        "deviations": (canary - requests * share) / deviation,
        "unanswered": unanswered,
    }


def failures(lines: Sequence[Json], begun: float, ended: float) -> Json:
    """What the client said of a stretch of time: requests, failures by cause, errors by a model, the worst second."""
    within = [line for line in lines if begun <= line["t"] < ended]
    seconds = [line for line in within if "p99_ms" in line]
    failed = [line for line in within if "code" in line]
    return {
        "seconds": round(ended - begun, 1),
        "requests": sum(line["requests"] for line in seconds),
        "failed": dict(Counter(_cause(line) for line in failed if line["run"] is None)),
        "failures": [line for line in failed if line["run"] is None][:KEPT],
        "errors_of_models": dict(Counter(f"{line['code']} of {line['run']}" for line in failed if line["run"])),
        "worst_p99_ms": max((line["p99_ms"] for line in seconds), default=0.0),
    }


def _cause(line: Json) -> str:
    return f"{line['code']} {line['body']}".strip()


async def measure(where: Place, good: Sequence[Model], bad: Sequence[Model], runs: int) -> tuple[list[Json], Json]:
    """Play everything; each scenario's stretch of time, and the shares at each weight."""
    stretches: list[Json] = []
    async with served.serving(where, good[0], {**STEPS, "analysis": ANALYSIS}) as serving:
        where.wait(where.client(CLIENT, RATE=str(RATE)), served.READY)
        await asyncio.sleep(3)
        player = Player(where, serving, iter(good[1:]), iter(bad))
        for name in SCENARIOS:
            for number in range(1, runs + 1):
                begun = time.time()
                found = await getattr(player, name)()
                stretches.append({"scenario": name, "run": number, "begun": begun, **(found or {})})
                support.say(f"{name} {number}: {time.time() - begun:.1f} s")
        await player.rest()
        ends = [stretch["begun"] for stretch in stretches[1:]] + [time.time()]
        for stretch, ended in zip(stretches, ends, strict=True):
            stretch["ended"] = ended
        return stretches, await player.weights()


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs: int = parser.parse_args().runs
    good = [Model(number) for number in range(1 + 5 * runs + 2)]
    bad = [Model(1000 + number, bad=True) for number in range(runs)]
    with served.place("bench-rollout", [*good, *bad]) as where:
        stretches, weights = asyncio.run(measure(where, good, bad, runs))
        lines = where.lines(f"client-{CLIENT}")
    results = [{**stretch, **failures(lines, stretch["begun"], stretch["ended"])} for stretch in stretches]
    for result in results:
        if "revision" in result:
            gone = served.zero_at(result["revision"], result["verdict"], lines)
            result["verdict_to_zero_s"] = gone - result["verdict"]
    how = HOW.format(rate=RATE, runs=runs, count=SHARE_REQUESTS)
    support.write("rollout", figures(results, weights), {"scenarios": results, "weights": weights}, how)
    return 0


def figures(results: Sequence[Json], weights: Json) -> dict[str, float]:
    """The figures of all runs together."""
    failed: dict[str, float] = dict.fromkeys((f"failed_{name}" for name in SCENARIOS), 0)
    for result in results:
        failed[f"failed_{result['scenario']}"] += sum(result["failed"].values())
    return {
        **failed,
        "requests": sum(result["requests"] for result in results),
        "worst_p99_ms": max(result["worst_p99_ms"] for result in results),
        **{f"weight_{weight}_share": found["share"] for weight, found in weights.items()},
        **{f"weight_{weight}_deviations": found["deviations"] for weight, found in weights.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
