"""The ranks of one attempt wait for each other before they train, so that half-placed jobs never hold GPUs for ever.

Rank 0 listens; the others connect, say their rank, and wait for `go`. Whoever waits longer than `seconds` ends with
exit code 75, which the operator takes as a free retry.
"""

import socket
import time
from collections.abc import Mapping
from typing import Any

from perennial.domain.training.failure import RANKS_MISSING
from perennial.steps.errors import TemporaryProblem

RETRY_SECONDS = 0.5
MAX_NODES = 1024


def meet(barrier: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Wait until all `nodes` ranks are here; TemporaryProblem when `seconds` pass before."""
    rank = int(barrier.get("rank", environ.get("JOB_COMPLETION_INDEX", "0")))
    nodes, deadline = int(barrier["nodes"]), time.monotonic() + float(barrier["seconds"])
    if nodes < 2:
        return
    if rank == 0:
        _gather(nodes, int(barrier["port"]), deadline, float(barrier["seconds"]))
    else:
        _join(rank, str(barrier["address"]), int(barrier["port"]), deadline, float(barrier["seconds"]))


def _missing(seconds: float, detail: str) -> TemporaryProblem:
    return TemporaryProblem(f"{RANKS_MISSING} within {seconds:.0f} s (spec.startSeconds): {detail}")


def _gather(nodes: int, port: int, deadline: float, seconds: float) -> None:
    present: dict[int, socket.socket] = {}
    with socket.create_server(("", port), backlog=min(nodes, MAX_NODES), family=socket.AF_INET) as server:
        while len(present) < nodes - 1:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                absent = sorted(set(range(1, nodes)) - set(present))
                raise _missing(seconds, f"absent are ranks {', '.join(map(str, absent[:20]))}")
            server.settimeout(remaining)
            try:
                peer, _ = server.accept()
            except TimeoutError:
                continue
            rank = _rank_of(peer, nodes)
            if rank is None:
                peer.close()
                continue
            if rank in present:
                present[rank].close()
            present[rank] = peer
        for peer in present.values():
            peer.sendall(b"go\n")
            peer.close()


def _rank_of(peer: socket.socket, nodes: int) -> int | None:
    """The rank that a connection announces; None for anybody else who connects."""
    peer.settimeout(5.0)
    try:
        text = peer.recv(16).decode(errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and 0 < int(text) < nodes else None


def _join(rank: int, address: str, port: int, deadline: float, seconds: float) -> None:
    while (remaining := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((address, port), timeout=min(5.0, remaining)) as peer:
                peer.sendall(f"{rank}\n".encode())
                peer.settimeout(max(0.1, deadline - time.monotonic()))
                if peer.recv(3) == b"go\n":
                    return
        except OSError:
            pass  # rank 0 has no name or does not listen yet, or was replaced: try again until the deadline
        time.sleep(min(RETRY_SECONDS, max(0.0, deadline - time.monotonic())))
    raise _missing(seconds, f"rank {rank} did not hear from rank 0 at {address}")
