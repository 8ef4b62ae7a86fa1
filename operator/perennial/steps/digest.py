"""Step digest: the digests of datasets, read as a stream and kept nowhere.

Input (JSON): datasets [{name, uri, moving?}], claims. The answer is one log line {"datasets": [{name, uri, digest,
sizeBytes}]} and the same as termination message when it fits, else its record digest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perennial.domain.conditions import MAX_MESSAGE_BYTES
from perennial.domain.errors import Stalled
from perennial.domain.training.record import record_line
from perennial.steps.digests import local_tree
from perennial.steps.errors import StepError
from perennial.steps.locations import CLAIMS_ROOT, locate
from perennial.steps.output import Output
from perennial.steps.store import named_errors, remote_tree, resolve


def digest_uri(
    uri: str, environ: Mapping[str, str], *, moving: bool = True, claims: str = CLAIMS_ROOT
) -> dict[str, Any]:
    """{uri (resolved), digest, sizeBytes} of what is at a URI; StepError when it cannot be read."""
    place = resolve(locate(uri, environ, claims), moving=moving)
    tree = remote_tree(place)
    return {"uri": place.uri, "digest": tree.digest, "sizeBytes": tree.size}


def digest_of(place: str, environ: Mapping[str, str]) -> tuple[str, int]:
    """(digest, bytes) of a local path or a URI, for people who want to pin data; Stalled when it cannot be read."""
    try:
        if "://" in place:
            read = digest_uri(place, environ)
            return str(read["digest"]), int(read["sizeBytes"])
        with named_errors(f"reading {place}"):
            tree = local_tree(Path(place).resolve(strict=True))
            return tree.digest, tree.size
    except StepError as error:
        raise Stalled("Unreadable", str(error)) from error


def run(given: Mapping[str, Any], environ: Mapping[str, str], output: Output) -> None:
    """Read every dataset and report."""
    claims = given.get("claims", CLAIMS_ROOT)
    found = []
    for item in given["datasets"]:
        read = digest_uri(item["uri"], environ, moving=bool(item.get("moving", True)), claims=claims)
        found.append({"name": item["name"], **read})
    line = record_line({"datasets": found})
    fits = len(line.encode()) < MAX_MESSAGE_BYTES - 120
    output.record(line, {"datasets": found} if fits else {})
