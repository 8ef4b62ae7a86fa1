"""Command line of the driver. Results go to standard output, progress and errors to standard error."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from localcluster import choose, components, containerd, images, lifecycle, state
from localcluster.api import Api
from localcluster.binaries import KUBERNETES_COMPONENTS, SOURCES, binary
from localcluster.errors import ClusterError
from localcluster.shell import say

DEFAULT = "dev"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.call(arguments) or 0)
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m localcluster", description="A real Kubernetes cluster, locally.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, call: object, text: str, *, named: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(call=call)
        if named:
            sub.add_argument("--name", default=DEFAULT, help=f"which cluster (default {DEFAULT})")
        return sub

    up = command("up", _up, "make and start a cluster; print the path of its kubeconfig")
    up.add_argument("--gpus", type=int, default=2, help="nvidia.com/gpu to advertise on the node (default 2)")
    up.add_argument("--fake-nodes", type=int, default=0, help="nodes played by KWOK, for tests of scale")
    up.add_argument("--no-node", action="store_true", help="only the control plane: no pods run")
    down = command("down", _down, "stop a cluster and remove everything it made")
    down.add_argument("--all", action="store_true", help="all clusters of this machine")
    command("kubeconfig", _kubeconfig, "print the path of a cluster's kubeconfig")
    ensure = command("ensure", _ensure, "find or make the cluster to use; print the path of its kubeconfig")
    ensure.add_argument("--gpus", type=int, default=2, help="nvidia.com/gpu to advertise if it is made")
    ensure.add_argument("--json", action="store_true", help="print kubeconfig, how, name and started as JSON")
    load = command("load", _load, "load image archives (docker-archive) into a cluster")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    build = command("build-image", _build_image, "build an image from DIR/Dockerfile; print its archive", named=False)
    build.add_argument("dir", type=Path, metavar="DIR")
    build.add_argument("tag", metavar="TAG")
    build.add_argument("--build-arg", action="append", default=[], metavar="K=V")
    fault = command("fault", _fault, "stop, start, kill, pause or resume a component")
    fault.add_argument("action", choices=("stop", "start", "kill", "pause", "resume"))
    fault.add_argument("component", metavar="COMPONENT")
    fault.add_argument(
        "--restart-clients",
        action="store_true",
        help="also restart the clients of the API server, for a quick recovery",
    )
    logs = command("logs", _logs, "print the log of a component")
    logs.add_argument("component", metavar="COMPONENT")
    logs.add_argument("--tail", type=int, metavar="N", help="only the last N lines")
    status = command("status", _status, "list clusters, or the components of one", named=False)
    status.add_argument("--name", help="which cluster; exit status 1 if it is not healthy")
    built = command("binary", _binary, "build a binary if it is missing and print its path", named=False)
    built.add_argument("binary", metavar="NAME", help=", ".join([*SOURCES, *KUBERNETES_COMPONENTS]))
    return top


def _up(arguments: argparse.Namespace) -> None:
    if arguments.gpus < 0 or arguments.fake_nodes < 0:
        raise ClusterError("--gpus and --fake-nodes must be 0 or more")
    made = lifecycle.up(
        arguments.name, gpus=arguments.gpus, fake_nodes=arguments.fake_nodes, node=not arguments.no_node
    )
    print(made.layout.kubeconfig)


def _down(arguments: argparse.Namespace) -> None:
    local = state.names() if arguments.all else [arguments.name]
    kind = choose.kind_clusters() if arguments.all else [arguments.name]
    removed = [name for name in local if lifecycle.down(name)] + [name for name in kind if choose.remove_kind(name)]
    say(f"removed {', '.join(removed)}" if removed else "there was no such cluster; nothing to do")


def _kubeconfig(arguments: argparse.Namespace) -> None:
    known = state.load(arguments.name)
    kind = choose.kind_kubeconfig(arguments.name)
    print(kind if known is None and kind.exists() else state.require(arguments.name).layout.kubeconfig)


def _ensure(arguments: argparse.Namespace) -> None:
    cluster = choose.ensure(arguments.name, gpus=arguments.gpus)
    print(json.dumps(cluster.as_dict()) if arguments.json else cluster.kubeconfig)


def _load(arguments: argparse.Namespace) -> None:
    for path in arguments.archives:
        if arguments.name in choose.kind_clusters():
            images.load_into_kind(arguments.name, path)
        else:
            containerd.load(arguments.name, path)


def _build_image(arguments: argparse.Namespace) -> None:
    pairs = [text.partition("=") for text in arguments.build_arg]
    if bad := [key for key, sign, _ in pairs if not sign]:
        raise ClusterError(f"--build-arg {bad[0]} has no value; write it as --build-arg {bad[0]}=VALUE")
    image = images.from_directory(arguments.dir, arguments.tag, {key: value for key, _, value in pairs})
    print(images.build(image))


def _fault(arguments: argparse.Namespace) -> None:
    known = state.require(arguments.name)
    if arguments.action == "start":
        name = components.resolve(known, arguments.component)
        lifecycle.start_component(known, name, restart_clients=arguments.restart_clients)
    else:
        components.fault(known, arguments.action, arguments.component)


def _logs(arguments: argparse.Namespace) -> None:
    known = state.require(arguments.name)
    path = components.log_file(known, components.resolve(known, arguments.component))
    if not path.exists():
        raise ClusterError(f"{arguments.component} of cluster {arguments.name!r} has written nothing yet")
    with path.open(errors="replace") as log:
        if arguments.tail is None:
            shutil.copyfileobj(log, sys.stdout)
        else:
            sys.stdout.writelines(log.readlines()[-arguments.tail :])


def _status(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        for name in state.names():
            known = state.require(name)
            print(
                f"{name}\tlocal\t{'healthy' if lifecycle.healthy(known) else 'not healthy'}\t{known.layout.kubeconfig}"
            )
        for name in choose.kind_clusters():
            print(f"{name}\tkind\t\t{choose.kind_kubeconfig(name)}")
        return 0
    known = state.require(arguments.name)
    for name in components.wanted(known):
        process = components.running(known, name)
        word = "dead" if process is None else "paused" if process.stopped() else f"running, pid {process.pid}"
        print(f"{name}\t{word}")
    healthy = lifecycle.healthy(known)
    ready = known.node and healthy and lifecycle.node_ready(Api(known), known.addresses.node_name)
    if known.node:
        print(f"node {known.addresses.node_name}\t{'Ready' if ready else 'not Ready'}")
    return 0 if healthy and (ready or not known.node) else 1


def _binary(arguments: argparse.Namespace) -> None:
    print(binary(arguments.binary))
