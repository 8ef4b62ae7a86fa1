"""Step report: print the record of a finished attempt again, from the store, when its pod's log is gone.

Input (JSON): output (URI), model, version, maker, attempt, record (its digest, when known), claims.
"""

import json
from collections.abc import Mapping
from typing import Any

from perennial.domain.training.record import digest_of
from perennial.steps.errors import DataProblem
from perennial.steps.locations import CLAIMS_ROOT, locate
from perennial.steps.output import Output
from perennial.steps.store import read_text, record_place


def run(given: Mapping[str, Any], environ: Mapping[str, str], output: Output) -> None:
    """Read, check and print."""
    place = locate(given["output"], environ, given.get("claims", CLAIMS_ROOT))
    record = record_place(place, given["model"], given["version"], given["maker"], int(given["attempt"]))
    line = read_text(record)
    if given.get("record") and digest_of(line) != given["record"]:
        raise DataProblem(f"{record.uri} is not the record that publish reported; train again")
    value = json.loads(line)
    artifact = value["artifact"]
    summary = {"version": given["version"], "artifact": artifact["digest"], "size": artifact["sizeBytes"]}
    output.record(line, summary)
