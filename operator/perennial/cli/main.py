"""The command line: `perennial ...`, the same as `kubectl perennial ...`.

Reads objects and writes one annotation (commands); everything else is the operator's. Exit codes: 0 good, 1 error,
2 something is not healthy or a check failed, 3 time-out. Must not import an adapter: `app/entry.py` hands in `Tools`.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from getpass import getuser
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from perennial.api import kinds, names
from perennial.cli import check as checks
from perennial.cli import family, view
from perennial.cli.tools import Connection, Target, Tools
from perennial.domain import conditions
from perennial.domain.errors import PerennialError
from perennial.domain.rollout.commands import SOMEBODY, command_text
from perennial.domain.rollout.state import State
from perennial.ports import PatchTarget

ERROR, UNHEALTHY, TIMEOUT = 1, 2, 3
COMMAND_SECONDS = 30.0
ResultT = TypeVar("ResultT")


class Refused(click.ClickException):
    """A sentence for the person, exit code 1."""

    exit_code = ERROR


def run(context: click.Context, work: Callable[[Connection], Awaitable[ResultT]]) -> ResultT:
    """Connect, do the work, and turn every expected error into one sentence."""
    tools: Tools = context.obj["tools"]
    target: Target = context.obj["target"]

    async def connected() -> ResultT:
        async with tools.connect(target) as connection:
            return await work(connection)

    try:
        return asyncio.run(connected())
    except PerennialError as error:
        raise Refused(f"{error.reason}: {error.message}") from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-n", "--namespace", help="The namespace; default: the context's.")
@click.option("--kubeconfig", help="Path of a kubeconfig; default: $KUBECONFIG or ~/.kube/config.")
@click.option("--context", "kube_context", help="A context of the kubeconfig.")
@click.option("--as", "user", help="Act as this user.")
@click.version_option(package_name="perennial")
@click.pass_context
def cli(
    context: click.Context, namespace: str | None, kubeconfig: str | None, kube_context: str | None, user: str | None
) -> None:
    """Keep machine-learning models fresh the GitOps way: see what serves and why, promote, abort, check, digest."""
    context.obj["target"] = Target(kubeconfig, kube_context, namespace, user)


@cli.command()
@click.argument("deployment")
@click.pass_context
def status(context: click.Context, deployment: str) -> None:
    """One ModelDeployment: what serves, the canary and its evidence, versions, drift, training, Git."""
    found = run(context, lambda c: family.read(c, deployment))
    click.echo("\n".join(view.status_lines(found)))
    ready = conditions.is_true(found.deployment.get("status", {}).get("conditions", ()), "Ready")
    context.exit(0 if ready else UNHEALTHY)


@cli.command()
@click.argument("deployment")
@click.option("-w", "--watch", is_flag=True, help="Keep showing it until interrupted.")
@click.pass_context
def get(context: click.Context, deployment: str, watch: bool) -> None:
    """The deployment as a tree of revisions and pods."""
    if not watch:
        click.echo("\n".join(view.tree_lines(run(context, lambda c: family.read(c, deployment)))))
        return

    async def follow(connection: Connection) -> None:
        with Live(console=Console(), refresh_per_second=4) as live:
            while True:
                found = await family.read(connection, deployment)
                live.update(Text("\n".join(view.tree_lines(found))))
                await asyncio.sleep(1.0)

    try:
        run(context, follow)
    except KeyboardInterrupt:
        context.exit(0)


def _command(context: click.Context, kind: kinds.Kind, name: str, verb: str, revision: str | None) -> None:
    """Write the command annotation and wait until the operator has taken it."""

    async def write(connection: Connection) -> str:
        obj = await family.require(connection, kind, name)
        bound, meant = revision or _bound_revision(obj, verb), _meant(obj, verb)
        id_ = uuid.uuid4().hex[:12]
        person = await _person(connection)
        text = command_text(meant, bound, id_, person)
        body = {"metadata": {"annotations": {names.ANNOTATION_COMMAND: text}}}
        target = PatchTarget(kind, connection.namespace, name, uid=obj["metadata"]["uid"])
        await connection.store.patch(target, body, manager="perennial-cli")
        deadline = time.monotonic() + COMMAND_SECONDS
        while time.monotonic() < deadline:
            obj = await family.require(connection, kind, name)
            if id_ in obj.get("status", {}).get("commands", ()):
                refusal = str((obj["status"].get("rollout") or {}).get("refusal") or "")
                if refusal.startswith(f"{meant} by {person} "):
                    raise Refused(refusal)
                return f"{meant} of {bound} taken. {view.headline(obj)}"
            await asyncio.sleep(0.3)
        raise TimeoutError

    try:
        click.echo(run(context, write))
    except TimeoutError:
        click.echo(
            f"The operator did not take the command within {COMMAND_SECONDS:.0f} s; it stays on the object and is "
            "taken when the operator runs (kubectl -n perennial-system get pods).",
            err=True,
        )
        context.exit(TIMEOUT)


def _bound_revision(obj: dict[str, Any], verb: str) -> str:
    """The revision that a command is about: the rollout's, or for retry the one that is asked for and not tried."""
    status = obj.get("status", {})
    rollout = status.get("rollout")
    if rollout:
        return str(rollout["targetRevision"])
    if verb == "retry" and (refused := _to_retry(obj)) is not None:
        return refused
    name = obj["metadata"]["name"]
    raise Refused(f"ModelDeployment {name} has no rollout in progress, so there is nothing to {verb}.")


def _meant(obj: dict[str, Any], verb: str) -> str:
    """Whoever promotes a canary that waits for approval approves: somebody else may have answered meanwhile, and then
    `promote` would pass the steps ahead. Raises Refused when nothing waits for `approve`.
    """
    if (obj.get("status", {}).get("rollout") or {}).get("state") == State.APPROVAL:
        return "approve" if verb == "promote" else verb
    if verb == "approve":
        raise Refused(
            f"ModelDeployment {obj['metadata']['name']} does not wait for approval, so there is nothing to approve."
        )
    return verb


def _to_retry(obj: dict[str, Any]) -> str | None:
    """The expired revision, else the last one rejected of the version that is named, else the last one rejected."""
    status, model = obj.get("status", {}), obj["spec"].get("model", {})
    if status.get("expired"):
        return str(status["expired"]["revision"])
    rejected = status.get("rejected", ())
    named = model.get("version") or status.get("chosenVersion")
    found = next((entry for entry in rejected if entry.get("version") == named), next(iter(rejected), None))
    return None if found is None else str(found["revision"])


async def _person(connection: Connection) -> str:
    """Who gives a command. Where the cluster does not tell, the command may still be taken: an abort must not fail."""
    try:
        return await connection.who()
    except PerennialError as error:
        name = _login()
        click.echo(
            f"The cluster does not tell your user name, so the command says {name}; a cluster that checks who gives "
            f"commands will refuse it: ask an administrator for the ClusterRole system:basic-user ({error.message}).",
            err=True,
        )
        return name


def _login() -> str:
    """The name of the account on this machine; a container's uid may have none."""
    try:
        return getuser()
    except (KeyError, OSError):
        return SOMEBODY


def _deployment_command(verb: str, text: str) -> None:
    @cli.command(name=verb, help=text)
    @click.argument("deployment")
    @click.option("--revision", help="The revision it is meant for; default: the rollout's (retry: the refused one's).")
    @click.pass_context
    def command(context: click.Context, deployment: str, revision: str | None) -> None:
        _command(context, kinds.MODEL_DEPLOYMENT, deployment, verb, revision)


_deployment_command("approve", "Answer what a rollout asks: the canary that waits for approval goes on.")
_deployment_command(
    "promote",
    "Give the canary all requests now, whatever the evidence and the steps ahead; one that waits is approved.",
)
_deployment_command("abort", "Take all requests from the canary now and reject its revision.")
_deployment_command("retry", "Try a rejected or expired revision again.")
_deployment_command("skip", "Skip the rest of this step.")


@cli.command(name="accept-data")
@click.argument("policy")
@click.argument("window")
@click.pass_context
def accept_data(context: click.Context, policy: str, window: str) -> None:
    """Release a retrain that bad data holds; WINDOW is the end of the window looked at (status.window.endTime)."""
    _command(context, kinds.DRIFT_POLICY, policy, "accept-data", window)


@cli.command()
@click.argument("training_job")
@click.option("--tail", type=int, default=200, show_default=True, help="Last lines of each container.")
@click.pass_context
def logs(context: click.Context, training_job: str, tail: int) -> None:
    """What the containers of a TrainingJob's latest attempt wrote, in the order they ran."""

    async def read(connection: Connection) -> list[str]:
        return await family.training_logs(connection, training_job, tail)

    for line in run(context, read):
        click.echo(line)


@cli.command()
@click.argument("place")
@click.pass_context
def digest(context: click.Context, place: str) -> None:
    """The digest of a file, directory or store URI, as manifests pin it."""
    tools: Tools = context.obj["tools"]
    try:
        value, size = tools.digest(place)
    except PerennialError as error:
        raise Refused(error.message) from error
    click.echo(f"{value}  {size} bytes")


@cli.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_context
def check(context: click.Context, directory: Path) -> None:
    """Validate a directory of manifests without a cluster; errors as path:line."""
    errors = checks.check_directory(directory)
    for error in errors:
        click.echo(f"{error.place}: {error.message}")
    click.echo(f"{len(errors)} error(s)" if errors else "all manifests are well formed", err=True)
    context.exit(UNHEALTHY if errors else 0)


def main(tools: Tools, arguments: list[str]) -> int:
    """Run the command line with the tools; the exit code."""
    program = "kubectl perennial" if Path(sys.argv[0]).name.startswith("kubectl-") else "perennial"
    try:
        return int(cli.main(arguments, prog_name=program, standalone_mode=False, obj={"tools": tools}) or 0)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
