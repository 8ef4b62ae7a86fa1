"""A trivial model: trained to a mean, answering x - mean, over the Open Inference Protocol. For tests and benchmarks.

    trivial.py train | evaluate | serve | exit CODE

train reads /perennial/data/train/*.csv (column x) and writes model.json, metrics.json and reference.csv. serve answers
from /mnt/models/model.json: `failShare` is the share of answers that are 500, spread evenly; `input` names its input.
"""

import csv
import itertools
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path("/perennial")


def rows(folder: Path) -> list[float]:
    """The column x of every table of a data set."""
    found = []
    for path in sorted(folder.rglob("*.csv")):
        with path.open(newline="") as text:
            found += [float(row["x"]) for row in csv.DictReader(text)]
    return found


def train() -> int:
    """The mean of the training rows is the model."""
    values = rows(ROOT / "data" / "train")
    mean = sum(values) / len(values)
    settings = json.loads((ROOT / "hyperparameters.json").read_text())
    output = ROOT / "output"
    (output / "model.json").write_text(json.dumps({"mean": mean, "failShare": settings.get("fail_share", 0)}))
    (output / "metrics.json").write_text(json.dumps({"rows": len(values), "mean": mean}))
    with (output / "reference.csv").open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["x", "prediction"])
        writer.writerows([value, value - mean] for value in values)
    print(f"trained on {len(values)} rows, mean {mean}", flush=True)
    return 0


def evaluate() -> int:
    """Mean absolute prediction on the Evaluate data: small when the model's mean is the data's."""
    model = json.loads((Path(os.environ["PERENNIAL_MODEL_DIR"]) / "model.json").read_text())
    values = rows(ROOT / "data" / "newest")
    loss = abs(sum(value - model["mean"] for value in values) / len(values))
    Path(os.environ["PERENNIAL_METRICS_FILE"]).write_text(json.dumps({"loss": loss}))
    return 0


class Model(BaseHTTPRequestHandler):
    """Open Inference Protocol v2, JSON only."""

    protocol_version = "HTTP/1.1"
    model: dict[str, Any]
    numbers = itertools.count()

    def do_GET(self) -> None:
        """Health and metadata."""
        name = os.environ.get("PERENNIAL_MODEL_NAME", "model")
        if self.path == f"/v2/models/{name}":
            tensor = {"datatype": "FP64", "shape": [-1]}
            wanted = {"name": self.model.get("input", "x"), **tensor}
            self._answer(200, {"name": name, "inputs": [wanted], "outputs": [{"name": "y", **tensor}]})
        else:
            self._answer(200 if self.path.startswith("/v2/health") else 404, {})

    def do_POST(self) -> None:
        """One prediction per value of x."""
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length))
        share = self.model.get("failShare", 0)
        number = next(self.numbers)
        if int((number + 1) * share) > int(number * share):
            self._answer(500, {"error": "this model fails for a share of its requests"})
            return
        values = [value - self.model["mean"] for value in body["inputs"][0]["data"]]
        output = {"name": "y", "datatype": "FP64", "shape": [len(values)], "data": values}
        self._answer(200, {"model_name": os.environ.get("PERENNIAL_MODEL_NAME", "model"), "outputs": [output]})

    def _answer(self, code: int, body: dict[str, object]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: a line a request is too much."""


class Server(ThreadingHTTPServer):
    """Connections wait in line as they do at a real server: with the standard library's five places a server that gets
    no processor for a second turns clients away."""

    request_queue_size = 1024


def serve() -> int:
    """Serve until SIGTERM."""
    Model.model = json.loads(Path("/mnt/models/model.json").read_text())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container ignores it by default
    Server(("", 8080), Model).serve_forever()
    return 0


def main() -> int:
    """Run the verb."""
    verb = sys.argv[1]
    if verb == "exit":
        print("this container was told to fail", flush=True)
        return int(sys.argv[2])
    return {"train": train, "evaluate": evaluate, "serve": serve}[verb]()


if __name__ == "__main__":
    sys.exit(main())
