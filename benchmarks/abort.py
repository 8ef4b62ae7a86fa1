"""How long a bad canary is seen and how quickly it is gone: 20 % errors at 5 % weight under 100 requests a second.

Thirty times a ModelDeployment gets a model whose server fails for a fifth of its requests, at random. Steps [5],
maxErrorRate 0.01, everything else by default. A pod in the cluster sends the requests and asks the routers for their
weights.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass

from benchmarks import served, support
from benchmarks.served import FAIL_SHARE, Json, Model, Place, Serving

RUNS = 30
RUN_SECONDS = 180
WARMUP_SECONDS = 5
ROLLOUT = {"steps": [{"weight": 5}], "analysis": {"maxErrorRate": "0.01"}}
CLIENT = "canaries"
HOW = (
    "{runs} canaries with {share:.0%} errors at 5 % weight under 100 requests/s; start is the canary's first answer "
    "after the {warmup} s of warm-up, verdict the stateTime of the withdrawal in status, zero the moment when "
    "/v1/status of the last router reports weight 0, confirmed by Envoy (asked every 30 ms)."
)


@dataclass(frozen=True)
class Verdict:
    """What status said of one canary; times in seconds since the epoch."""

    revision: str
    verified: float
    verdict: float
    requests: int
    failures: int


async def run(serving: Serving, model: Model) -> Verdict:
    """Name a bad model and wait for its verdict."""
    last: Json = {}

    def withdrawn(status: Json) -> bool:
        nonlocal last
        rollout = status.get("rollout") or {}
        if rollout.get("digest") != model.artifact["digest"]:
            return False
        if rollout["state"] != "Withdrawing":
            last = rollout
        return bool(rollout["state"] == "Withdrawing")

    await serving.name(model)
    status = await serving.until(f"the abort of run {model.run}", withdrawn, RUN_SECONDS)
    return _verdict(last, status["rollout"])


def _verdict(before: Json, rollout: Json) -> Verdict:
    analysis = rollout.get("analysis") or before.get("analysis") or {}
    verified = before.get("weightVerifiedTime") or rollout.get("weightVerifiedTime")
    if verified is None:
        raise support.BenchmarkError(f"withdrawn before its weight was verified: {rollout}")
    return Verdict(
        rollout["targetRevision"],
        served.epoch(verified),
        served.epoch(rollout["stateTime"]),
        int(analysis.get("requests", 0)),
        int(analysis.get("failures", 0)),
    )


def evaluated(number: int, verdict: Verdict, lines: list[Json]) -> Json:
    """The times of one run from the client's lines."""
    answers = [line["t"] for line in lines if line.get("run") == number]
    counted = [t for t in answers if t >= verdict.verified + WARMUP_SECONDS]
    if not counted:
        raise support.BenchmarkError(f"run {number}: the canary gave no counted answer")
    return {
        "run": number,
        "start_to_verdict_s": verdict.verdict - counted[0],
        "verdict_to_zero_s": served.zero_at(verdict.revision, verdict.verdict, lines) - verdict.verdict,
        "last_canary_answer_after_verdict_s": answers[-1] - verdict.verdict,
        "requests": verdict.requests,
        "failures": verdict.failures,
    }


async def measure(where: Place, runs: int) -> list[Verdict]:
    """Serve the good model, then the bad ones in turn."""
    found = []
    async with served.serving(where, Model(0), ROLLOUT) as serving:
        where.wait(where.client(CLIENT), served.READY)
        await asyncio.sleep(3)
        for number in range(1, runs + 1):
            verdict = await run(serving, Model(number, bad=True))
            found.append(verdict)
            took = verdict.verdict - verdict.verified - WARMUP_SECONDS
            support.say(f"run {number}: aborted {took:.1f} s after warm-up, {verdict.failures} of {verdict.requests}")
            await serving.settled(60)
    return found


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs: int = parser.parse_args().runs
    models = [Model(number, bad=number > 0) for number in range(runs + 1)]
    with served.place("bench-abort", models) as where:
        verdicts = asyncio.run(measure(where, runs))
        lines = where.lines(f"client-{CLIENT}")
    results = [evaluated(number, verdict, lines) for number, verdict in enumerate(verdicts, start=1)]
    seen = [result["start_to_verdict_s"] for result in results]
    gone = [result["verdict_to_zero_s"] for result in results]
    failed = [line for line in lines if "code" in line and "run" not in line]
    figures = {
        "start_to_verdict_p50_s": support.percentile(seen, 0.5),
        "start_to_verdict_p90_s": support.percentile(seen, 0.9),
        "verdict_to_zero_p50_s": support.percentile(gone, 0.5),
        "verdict_to_zero_p99_s": support.percentile(gone, 0.99),
        "verdict_to_last_canary_answer_p99_s": support.percentile(
            [result["last_canary_answer_after_verdict_s"] for result in results], 0.99
        ),
        "requests_failed_stable": len(failed),
    }
    support.write(
        "abort",
        figures,
        {"canaries": results, "failed": failed},
        HOW.format(runs=runs, share=FAIL_SHARE, warmup=WARMUP_SECONDS),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
