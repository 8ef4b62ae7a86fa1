"""Step publish: hash the model, upload it, and write the record from which the operator makes the version.

Input (JSON): version, model, maker (which TrainingJob object), attempt, format, output (URI), source (folder),
evaluated (path of the candidate's metrics, optional), champion {metrics, exitCode, failed} (paths) or {problem}
(words), optional, resolution (path written by fetch), remove (folders of a shared claim that are no longer needed
afterwards, optional), claims.
Control files in the source folder (metrics, reference rows, progress) are no part of the model: the reference rows are
training data and must not travel to where models are served. A few are kept apart as sample inputs (samples.py).
"""

import json
import shutil
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from perennial.domain.training.record import (
    MAX_RECORD_BYTES,
    RECORD_VERSION,
    BadRecord,
    digest_of,
    metrics_of,
    record_line,
)
from perennial.steps import reference, samples
from perennial.steps.digests import local_tree, regular_files
from perennial.steps.errors import DataProblem
from perennial.steps.locations import CLAIMS_ROOT, locate
from perennial.steps.output import Output
from perennial.steps.store import artifact_place, create_text, record_place, samples_place, upload

METRICS = "metrics.json"
CONTROL_FILES = frozenset({METRICS, "progress.json", reference.REFERENCE, reference.EXCLUDE})
MAX_METRICS_BYTES = 64 * 1024
MAX_DECIMAL_TEXT = 32


def run(given: Mapping[str, Any], environ: Mapping[str, str], output: Output) -> None:
    """Publish, on rank 0 only."""
    if environ.get("JOB_COMPLETION_INDEX", "0") != "0":
        output.say("only rank 0 publishes")
        return
    source = Path(given["source"])
    paths = regular_files(source)
    files = [path for path in paths if path not in CONTROL_FILES]
    if not files:
        raise DataProblem(f"train wrote no model to {source}; write at least one file there besides {METRICS}")
    tree = local_tree(source, files)
    place = locate(given["output"], environ, given.get("claims", CLAIMS_ROOT))
    target = artifact_place(place, given["model"], tree.digest)
    record = {
        "recordVersion": RECORD_VERSION,
        "version": given["version"],
        "artifact": {"uri": target.uri, "digest": tree.digest, "sizeBytes": tree.size, "format": given["format"]},
        "metrics": read_metrics(source / METRICS, "train"),
        **_evaluation(given),
        **_resolution(given),
    }
    table = reference.read(source)
    output.say("building the baseline" if table is not None else "train wrote no reference.csv")
    sampled = None
    if table is not None:
        record["baseline"] = reference.build(source, table)
        sampled = samples.draw(table, tree.digest)
    if sampled is not None:
        text, rows = sampled
        digest = digest_of(text)
        sample_place = samples_place(place, given["model"], digest)
        record["samples"] = {"uri": sample_place.uri, "digest": digest, "rows": rows}
    line = record_line(record)
    if len(line.encode()) > MAX_RECORD_BYTES:
        raise DataProblem(
            f"the record has {len(line.encode())} bytes, at most {MAX_RECORD_BYTES} are kept; "
            f"name features that need no drift detection in {reference.EXCLUDE}"
        )
    output.say(f"uploading {len(files)} files, {tree.size} bytes, to {target.uri}")
    upload(source, tree, target)
    if sampled is not None:
        create_text(sample_place, sampled[0])
    kept = record_place(place, given["model"], given["version"], given["maker"], int(given["attempt"]))
    create_text(kept, line)
    for folder in given.get("remove") or ():
        shutil.rmtree(folder, ignore_errors=True)
    output.record(line, {"version": given["version"], "artifact": tree.digest, "size": tree.size})


def read_metrics(path: Path, who: str) -> dict[str, str]:
    """Metrics {name: decimal text} of a flat JSON object {name: number}; {} when the file does not exist."""
    if path.is_symlink():
        raise DataProblem(f"{who} made {path.name} a link; it must be a regular file")
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_METRICS_BYTES:
        raise DataProblem(f"{who} wrote a {path.name} larger than {MAX_METRICS_BYTES} bytes")
    try:
        raw = json.loads(path.read_text(), parse_float=Decimal, parse_int=Decimal, parse_constant=str)
        if not isinstance(raw, dict):
            raise BadRecord("it is no object of names and numbers")
        return metrics_of({name: decimal_text(value) for name, value in raw.items()}, path.name)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataProblem(f"{who} wrote a {path.name} that is no JSON") from error
    except BadRecord as error:
        raise DataProblem(f"{who} wrote a {path.name} that cannot be used: {error}") from error


def decimal_text(value: Any) -> str:
    """A JSON number as plain decimal text of at most 32 characters; anything else as a text that is no decimal."""
    if not isinstance(value, Decimal):
        return f"not a number: {value!r}"[:MAX_DECIMAL_TEXT]
    plain = format(value, "f")
    if len(plain) <= MAX_DECIMAL_TEXT:
        return plain
    short = format(Decimal(f"{value:.12g}"), "f")
    return short if len(short) <= MAX_DECIMAL_TEXT else f"{value:.12e}"


def _evaluation(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"evaluated": {}}
    if given.get("evaluated"):
        found["evaluated"] = read_metrics(Path(given["evaluated"]), "evaluate")
    champion = given.get("champion")
    if not champion:
        return found
    problem = str(champion.get("problem") or "") or _text(champion.get("failed"))
    code = _text(champion.get("exitCode"))
    if problem:
        found["championNote"] = problem[:500]
    elif champion.get("exitCode") and code != "0":
        found["championNote"] = f"evaluate ended with exit code {code or 'unknown'} for the champion"
    else:
        try:
            found["champion"] = read_metrics(Path(champion["metrics"]), "evaluate")
        except DataProblem as error:
            found["championNote"] = f"for the champion, {error}"
    return found


def _text(path: str | None) -> str:
    if not path or not Path(path).is_file() or Path(path).is_symlink():
        return ""
    return Path(path).read_text()[:2000].strip()


def _resolution(given: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(given["resolution"])
    return dict(json.loads(path.read_text())) if path.is_file() else {"datasets": []}
