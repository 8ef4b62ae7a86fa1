"""Running other programs: output captured, failures turned into one sentence. Keeps no state."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster.errors import ClusterError


def say(text: str) -> None:
    """Prints a progress line to standard error; standard output is for results that scripts read."""
    print(text, file=sys.stderr, flush=True)


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Runs a program and returns its standard output; raises ClusterError with the end of its messages."""
    try:
        done = subprocess.run(
            [str(a) for a in argv], input=stdin, env=env, cwd=cwd, timeout=timeout, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{argv[0]} was not found; install it and try again") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{argv[0]} {argv[1] if len(argv) > 1 else ''} gave no result within {timeout} s") from error
    if done.returncode != 0:
        words = " ".join(str(a) for a in argv[:4])
        raise ClusterError(f"`{words}` failed with status {done.returncode}: {tail(done.stderr or done.stdout)}")
    return done.stdout


def succeeds(argv: Sequence[str | Path], *, timeout: float = 20.0) -> bool:
    """Whether a program exists and ends with status 0 within `timeout` seconds; its output is dropped."""
    try:
        done = subprocess.run([str(a) for a in argv], capture_output=True, timeout=timeout)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def tail(text: str, limit: int = 700) -> str:
    """The end of a program's messages, short enough for one error."""
    text = text.strip()
    return text if len(text) <= limit else "... " + text[-limit:]
