"""`python -m examples.rain.demo` (`make demo`): find or make a cluster, install, play, report, clean up.

Environment: PERENNIAL_KUBECONFIG names a cluster; KEEP=1 leaves everything it made. Exit code 1 when a step did not
hold; report.json and report.html are written all the same, with what was seen until then.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

from examples.rain.demo import play, report
from examples.rain.demo.play import Play, Result
from examples.rain.demo.stage import BUILD, DemoError, Stage, Timeline, build_images, install, install_folder
from examples.rain.demo.watch import Watcher
from localcluster.errors import ClusterError
from localcluster.using import KEEP, Running, using
from perennial.adapters.kube import connect_store
from perennial.domain.errors import PerennialError

NAMESPACE = "rain-demo"
CLUSTER = "demo"
BETTER = 0.9


def figures(result: Result, how: str, seconds: dict[str, float]) -> dict[str, Any]:
    """The keys of report.json."""
    after = max(result.retrain_years, default=play.LAST) + 1
    later = [year for year in range(after, play.LAST + 1) if year in result.years and year in result.never]

    def mean(values: list[float]) -> float | None:
        return round(sum(values) / len(values), 4) if values else None

    failed = failures_by_fault(result)
    return {
        "requests_total": result.replay_sent + result.load.get("sent", 0),
        "requests_failed_stable": failed[0],
        "requests_failed_canary": failed[1],
        "versions": versions(result),
        "input_drift_first_year": result.input_drift_first_year,
        "retrain_years": result.retrain_years,
        "retrain_jobs": len(result.retrain_years),
        "logloss_never": mean([result.never[y] for y in later]),
        "logloss_perennial": mean([result.years[y]["log_loss"] for y in later]),
        "abort_seconds": result.abort_seconds,
        "revert_commit": result.revert_commit,
        "seconds": seconds,
        "cluster": how,
    }


def failures_by_fault(result: Result) -> tuple[int, int]:
    """Failed requests: (by Perennial's doing, by the broken canary's own answers)."""
    canary = sum(n for what, n in result.load.get("failed", {}).items() if what.split()[0] == result.bad_revision)
    everything = sum(result.load.get("failed", {}).values()) + sum(result.replay_failures.values())
    return everything - canary, canary


def versions(result: Result) -> list[dict[str, Any]]:
    """What became of each version."""
    fates = [
        (result.first_version, bool(result.first_version), False),
        (result.second_version, bool(result.second_version), False),
        (result.broken_version, False, bool(result.revert_commit)),
    ]
    return [
        {"name": name, "promoted": promoted, "rejected": rejected, "commit": result.commits.get(name, "")}
        for name, promoted, rejected in fates
    ]


def check(values: dict[str, Any]) -> list[str]:
    """What did not hold, in words; empty when the demo showed what it promises."""
    wrong = []
    if values["requests_failed_stable"]:
        wrong.append(f"{values['requests_failed_stable']} requests failed by Perennial's doing; none may")
    if values["retrain_years"] != [22]:
        wrong.append(f"retrained after the years {values['retrain_years']}; only year 22 is a reason")
    if values["input_drift_first_year"] != 15:
        wrong.append(f"the visibility change was reported in year {values['input_drift_first_year']}, not 15")
    never, ours = values["logloss_never"], values["logloss_perennial"]
    if never is None or ours is None or ours > BETTER * never:
        wrong.append(f"log loss {ours} is not at most {BETTER} of {never} (never retrained)")
    if not values["revert_commit"]:
        wrong.append("the broken version was not reverted in Git")
    return wrong


def story(result: Result, watcher: Watcher, timeline: Timeline) -> report.Story:
    """Timeline, plots and tables of the page."""
    years = sorted(result.years)
    losses = report.Plot(
        "Log loss by year",
        "year",
        "log loss",
        [
            report.Series("never retrained", [(y, result.never[y]) for y in sorted(result.never)]),
            report.Series("Perennial", [(y, result.years[y]["log_loss"]) for y in years]),
        ],
    )
    series = []
    for policy, name in zip(play.POLICIES, ("inputs", "prediction"), strict=True):
        windows = sorted(result.windows.get(policy, {}).items())
        series.append(report.Series(name, [(year, w["effect"]) for year, w in windows]))
        limits = [(year, w["threshold"]) for year, w in windows]
        series.append(report.Series(f"{name} threshold", limits, steps=True, limit=True))
    effects = report.Plot("Drift effect (corrected PSI) by window", "year", "effect", series)
    start = timeline.started
    weights = [(round(t - start, 1), w) for t, w in watcher.weights]
    canary = report.Plot("Canary weight", "seconds", "percent", [report.Series("canary", weights, steps=True)])
    table = [
        {"year": y, "never": result.never.get(y), "perennial": result.years.get(y, {}).get("log_loss")} for y in years
    ]
    return report.Story(timeline.entries, [losses, effects, canary], table, result.git_log)


def print_table(result: Result, values: dict[str, Any]) -> None:
    """The closing table on the terminal."""
    print("\nyear   never retrained   Perennial")
    for year in sorted(result.years):
        never = result.never.get(year)
        shown = "-" if never is None else f"{never:.3f}"
        print(f"{year:>4}   {shown:>15}   {result.years[year]['log_loss']:>9.3f}")
    for key, value in values.items():
        print(f"{key:<24} {value}")
    print("\ngit log --oneline of the repository")
    print("\n".join(result.git_log), flush=True)


async def perform(cluster: Running, timeline: Timeline) -> int:
    """Install and play on a cluster; 0 when everything held."""
    async with connect_store(kubeconfig=str(cluster.kubeconfig)) as (store, _):
        stage = Stage(cluster, store, timeline, NAMESPACE)
        started = time.time()
        stage = replace(stage, tags=build_images(cluster, timeline))
        timeline.tell("installing the operator: kubectl apply -k manifests")
        install(stage)
        stage.kubectl("create", "namespace", NAMESPACE)
        stage.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        await stage.wait("the operator", stage.operator_ready, 180)
        installed = round(time.time() - started, 1)
        watcher = Watcher(stage)
        watching = asyncio.create_task(watcher.run())
        performance = Play(stage, watcher)
        wrong: list[str] = []
        try:
            await performance.perform()
        except DemoError as error:
            wrong.append(str(error))
        finally:
            await play.quiet(watching)
        result = performance.result
        values = figures(result, cluster.how, {"install": installed, **result.seconds})
        wrong += check(values) if not wrong else []
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / "report.json").write_text(json.dumps(values, indent=2) + "\n")
        (BUILD / "report.html").write_text(report.page(values, story(result, watcher, timeline)))
        print_table(result, values)
        for sentence in wrong:
            print(f"did not hold: {sentence}", file=sys.stderr)
        if not os.environ.get("KEEP"):
            clean(stage)
        return 1 if wrong else 0


def clean(stage: Stage) -> None:
    """Remove what the demo made in the cluster."""
    stage.timeline.tell("removing what the demo made (KEEP=1 keeps it)")
    with contextlib.suppress(ClusterError):
        stage.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        stage.kubectl("delete", "-k", str(install_folder(stage.cluster)), "--wait=false", "--ignore-not-found")


def main() -> int:
    """Find or make a cluster, play, and take the cluster away again when this call made it."""
    timeline = Timeline()
    if os.environ.get("KEEP"):
        os.environ[KEEP] = "1"
    try:
        with using(CLUSTER) as cluster:
            timeline.tell(f"cluster: {cluster.how} ({cluster.kubeconfig})")
            return asyncio.run(perform(cluster, timeline))
    except (DemoError, ClusterError, PerennialError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
