"""Steady load beside the replay: counted for the canary's verdict, marked so that it is not binned for drift.

Prints one JSON line a second with what was sent and what failed, and by which revision. Stops on SIGTERM or after
--seconds, whichever comes first.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException

import numpy as np
import rain
import store

THREADS = 4


class Load:
    """Counts shared by the sending threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent = 0
        self.failed: Counter[str] = Counter()
        self.stop = threading.Event()

    def failure(self, revision: str, what: str) -> None:
        """Count one failed request against the revision that answered ("none" when no model did)."""
        with self.lock:
            self.failed[f"{revision} {what}"] += 1


def body(row: np.ndarray) -> bytes:
    """One row as an Open Inference Protocol v2 JSON request."""
    inputs = [
        {"name": n, "shape": [1], "datatype": "FP64", "data": [float(v)]}
        for n, v in zip(rain.FEATURES, row, strict=True)
    ]
    return json.dumps({"inputs": inputs}).encode()


def work(load: Load, slot: int, host: str, model: str, rate: float, bodies: list[bytes]) -> None:
    """Send at `rate` requests a second over one kept-alive connection until told to stop."""
    headers = {"content-type": "application/json", "x-perennial-observe": "none"}
    connection = HTTPConnection(host, 80, timeout=30)
    due = time.time()
    index = slot * 997
    while not load.stop.is_set():
        due += 1 / rate
        load.stop.wait(max(0.0, due - time.time()))
        due = max(due, time.time() - 1.0)  # after a stall, do not send a burst of more than a second
        index += 1
        with load.lock:
            load.sent += 1
        try:
            connection.request("POST", f"/v2/models/{model}/infer", bodies[index % len(bodies)], headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                load.failure(answer.getheader("x-perennial-revision", "none"), str(answer.status))
        except (HTTPException, OSError) as error:
            load.failure("none", type(error).__name__)
            connection.close()
            connection = HTTPConnection(host, 80, timeout=30)


def main() -> int:
    """Run the load and report once a second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="rain")
    parser.add_argument("--model", default="rain")
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=1800.0)
    options = parser.parse_args()
    record = rain.load(store.DATA)
    bodies = [body(row) for row in record.x[: 10 * rain.DAYS]]
    load = Load()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: load.stop.set())
    arguments = (options.host, options.model, options.rate / THREADS, bodies)
    threads = [threading.Thread(target=work, args=(load, i, *arguments), daemon=True) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    end = time.time() + options.seconds
    while not load.stop.wait(1.0) and time.time() < end:
        with load.lock:
            print(json.dumps({"time": time.time(), "sent": load.sent, "failed": dict(load.failed)}), flush=True)
    load.stop.set()
    for thread in threads:
        thread.join(timeout=35)
    print(json.dumps({"time": time.time(), "sent": load.sent, "failed": dict(load.failed), "done": True}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
