"""The entry of all steps: `run_step(verb, environ)`. Input is one JSON object in PERENNIAL_STEP.

A step never ends with a traceback for what a user can cause: it ends with an exit code and one sentence.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from perennial.steps import digest, fetch, publish, report, smoke
from perennial.steps.errors import StepError, UsageProblem
from perennial.steps.output import TERMINATION_LOG, Output

EXIT_SOFTWARE = 70

VERBS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, str], Output], None]] = {
    "fetch": fetch.run,
    "publish": publish.run,
    "digest": digest.run,
    "report": report.run,
    "smoke": smoke.run,
}


def run_step(verb: str, environ: Mapping[str, str]) -> int:
    """Run one step; the exit code. environ: PERENNIAL_STEP (input), PERENNIAL_TERMINATION_LOG (a path, for tests),
    store credentials, JOB_COMPLETION_INDEX (set by Kubernetes)."""
    output = Output(Path(environ.get("PERENNIAL_TERMINATION_LOG", TERMINATION_LOG)))
    try:
        if verb not in VERBS:
            raise UsageProblem(f"there is no step {verb!r}; the steps are {', '.join(sorted(VERBS))}")
        VERBS[verb](_given(environ), environ, output)
    except StepError as error:
        output.fail(str(error))
        return error.code
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        output.fail(f"step {verb} failed unexpectedly ({type(error).__name__}: {error}); its log has the details")
        return EXIT_SOFTWARE
    return 0


def _given(environ: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        given = json.loads(environ.get("PERENNIAL_STEP", ""))
    except json.JSONDecodeError as error:
        raise UsageProblem("PERENNIAL_STEP must hold the step's input as one JSON object") from error
    if not isinstance(given, dict):
        raise UsageProblem("PERENNIAL_STEP must hold the step's input as one JSON object")
    return given
