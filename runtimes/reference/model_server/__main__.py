"""Load the one model of the artifact and serve it: `python -m model_server [--format FORMAT]`.

Exit code 65, with one sentence as the last line of the log, when the artifact is no model of the format.
"""

import argparse
import os
import sys
from pathlib import Path

from model_server.artifact import FORMATS, ArtifactError, load

EX_DATAERR = 65
PORTS = (("HTTP", "8080"), ("GRPC", "8081"))


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="model_server", description=__doc__)
    parser.add_argument("--format", choices=sorted(FORMATS), help="what the artifact is; by its file's name when unset")
    arguments = parser.parse_args()
    directory = Path(os.environ.get("PERENNIAL_MODEL_DIR", "/mnt/models"))
    try:
        model = load(directory, arguments.format)
    except ArtifactError as error:
        print(error, file=sys.stderr)
        return EX_DATAERR
    from model_server.serving import serve  # the SDK takes seconds to import: a bad artifact is told before

    name = os.environ.get("PERENNIAL_MODEL_NAME", "model")
    http_port, grpc_port = (int(os.environ.get(f"PERENNIAL_{one}_PORT", at)) for one, at in PORTS)
    serve(name, model, http_port, grpc_port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
