"""Step fetch: bring data and models into the pod, verify them, and say what was resolved.

Input (JSON): items [{name, uri, digest?, path, moving?, optional?, kind?}], writes {path: text}, clear [path] (emptied
first), directories [path],
resolution (path of a JSON file for step publish, optional), barrier {nodes, rank?, address, port, seconds} (optional),
claims (root of mounted claims). kind "dataset" items are reported; a failed `optional` item is noted beside its path
(`<path>.failed`) and does not fail the step.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perennial.domain.training.record import record_line
from perennial.steps.barrier import meet
from perennial.steps.errors import StepError
from perennial.steps.locations import CLAIMS_ROOT, locate
from perennial.steps.output import Output
from perennial.steps.store import download, empty, resolve, verify


def run(given: Mapping[str, Any], environ: Mapping[str, str], output: Output) -> None:
    """Fetch everything, then meet the other ranks. StepError says what was wrong."""
    for folder in given.get("clear") or ():
        empty(Path(folder))
    for folder in given.get("directories") or ():
        Path(folder).mkdir(parents=True, exist_ok=True)
    for path, text in (given.get("writes") or {}).items():
        Path(path).write_text(text)
    resolved = [_fetch(item, given, environ, output) for item in given["items"]]
    done = [item for item in resolved if item is not None]
    datasets = [{k: v for k, v in item.items() if k != "kind"} for item in done if item["kind"] == "dataset"]
    base = next(({k: v for k, v in item.items() if k != "kind"} for item in done if item["kind"] == "base"), None)
    found: dict[str, Any] = {"datasets": datasets}
    if base is not None:
        found["base"] = base
    if given.get("resolution"):
        Path(given["resolution"]).write_text(json.dumps(found))
    output.record(record_line(found), {})
    if given.get("barrier"):
        meet(given["barrier"], environ)


def _fetch(
    item: Mapping[str, Any], given: Mapping[str, Any], environ: Mapping[str, str], output: Output
) -> dict[str, Any] | None:
    what = f"{item.get('kind', 'artifact')} {item['name']}"
    target = Path(item["path"])
    try:
        place = locate(item["uri"], environ, given.get("claims", CLAIMS_ROOT))
        place = resolve(place, moving=bool(item.get("moving")))
        output.say(f"fetching {what} from {place.uri}")
        tree = download(place, target)
        verify(tree, item.get("digest"), f"what lies at {place.uri}")
    except StepError as error:
        if not item.get("optional"):
            raise type(error)(f"{what}: {error}") from error
        output.say(f"{what}: {error}")
        Path(f"{item['path']}.failed").write_text(f"{what}: {error}")
        return None
    output.say(f"{what}: {len(tree.files)} files, {tree.size} bytes, {tree.digest}")
    return {
        "kind": item.get("kind", "artifact"),
        "name": item["name"],
        "uri": place.uri,
        "digest": tree.digest,
        "sizeBytes": tree.size,
    }
