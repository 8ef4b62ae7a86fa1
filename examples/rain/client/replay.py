"""Replay the rain record, one year a drift window, as an independent client in a pod of its own.

Sends each year's rows one request at a time in the first half of a window, uploads the year's labels before the window
ends, waits until the policy has closed the window and, while a trigger is in flight, until it has an outcome. Prints
one JSON line per step; the last line has `done: true`. Speaks Open Inference Protocol with tritonclient and S3 with
minio: nothing of Perennial is imported.
"""

import argparse
import json
import os
import ssl
import sys
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import rain
import store
import tritonclient.http as triton
from sklearn.metrics import log_loss
from tritonclient.utils import InferenceServerException

API = "https://kubernetes.default.svc/apis/perennial.dev/v1alpha1"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CONNECTIONS = 4


def say(**facts: object) -> None:
    """One JSON line on standard output, with the time."""
    print(json.dumps({"time": time.time(), **facts}), flush=True)


class Sender:
    """Sends rows over a few kept-alive connections and counts answers by status and answering revision."""

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._model = model
        self._lock = threading.Lock()
        self.sent = 0
        self.failures: Counter[str] = Counter()

    def connect(self) -> triton.InferenceServerClient:
        """A kept-alive connection; it must stay in the thread that made it."""
        return triton.InferenceServerClient(self._url, network_timeout=30.0)

    def send(self, client: triton.InferenceServerClient, row: np.ndarray) -> float | None:
        """One request; the prediction, or None when it failed (counted with what is known of who failed)."""
        inputs = []
        for name, value in zip(rain.FEATURES, row, strict=True):
            tensor = triton.InferInput(name, [1], "FP64")
            tensor.set_data_from_numpy(np.array([value]))
            inputs.append(tensor)
        with self._lock:
            self.sent += 1
        try:
            answer = client.infer(self._model, inputs)
        except InferenceServerException as error:
            self._count(f"{error.status() or 'transport'} {str(error)[:120]}")
            return None
        except Exception as error:  # a connection that breaks is a failed request too
            self._count(f"transport {type(error).__name__}: {str(error)[:100]}")
            return None
        return float(answer.as_numpy("prediction").reshape(-1)[0])

    def _count(self, what: str) -> None:
        with self._lock:
            self.failures[what] += 1


def replay_year(sender: Sender, record: rain.Rows, year: int, start: float, seconds: float) -> list[float | None]:
    """All rows of a year, paced evenly over `seconds` from `start`; predictions in row order."""
    rows = rain.year(record, year).x
    gap = seconds / len(rows)

    def work(slot: int) -> list[tuple[int, float | None]]:
        answers = []
        client = sender.connect()
        for index in range(slot, len(rows), CONNECTIONS):
            delay = start + index * gap - time.time()
            if delay > 0:
                time.sleep(delay)
            answers.append((index, sender.send(client, rows[index])))
        client.close()
        return answers

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = [pair for part in pool.map(work, range(CONNECTIONS)) for pair in part]
    return [prediction for _, prediction in sorted(found)]


def loss(labels: np.ndarray, predictions: list[float | None]) -> float:
    """Log loss over the rows that were answered."""
    answered = [(label, p) for label, p in zip(labels, predictions, strict=True) if p is not None]
    return float(log_loss([label for label, _ in answered], [p for _, p in answered], labels=[0, 1]))


def policy_status(namespace: str, name: str) -> dict:
    """The DriftPolicy's status from the API server, with this pod's own account."""
    with open(f"{ACCOUNT}/token") as handle:
        token = handle.read()
    request = urllib.request.Request(
        f"{API}/namespaces/{namespace}/driftpolicies/{name}", headers={"Authorization": f"Bearer {token}"}
    )
    context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return json.load(answer).get("status", {})


def epoch(text: str | None) -> float:
    """Seconds since the epoch of an RFC 3339 text; 0 when absent."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0


def wait_for_window(namespace: str, policies: list[str], end: float, limit: float) -> None:
    """Until every policy has closed the window that ends at `end` and no trigger is in flight."""
    deadline = time.time() + limit
    told = 0.0
    while time.time() < deadline:
        try:
            statuses = [policy_status(namespace, name) for name in policies]
        except OSError as error:
            say(waiting=f"the API server does not answer ({error})")
            time.sleep(1)
            continue
        closed = all(epoch(s.get("window", {}).get("endTime")) >= end for s in statuses)
        active = [s["activeTrigger"]["id"] for s in statuses if s.get("activeTrigger")]
        if closed and not active:
            return
        if active and time.time() - told > 10:
            told = time.time()
            say(waiting=f"trigger {active[0]} is in flight")
        time.sleep(0.5)
    raise TimeoutError(f"a window or a trigger did not end within {limit:.0f} s")


def main() -> int:
    """Replay the years given; 1 when a window or trigger never ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="rain")
    parser.add_argument("--model", default="rain")
    parser.add_argument("--namespace", default=os.environ.get("POD_NAMESPACE", "default"))
    parser.add_argument("--policies", default="rain-inputs,rain-predictions")
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--last", type=int, default=28)
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--limit", type=float, default=600.0)
    options = parser.parse_args()
    record = rain.load(store.DATA)
    sender = Sender(options.url, options.model)
    for year in range(options.first, options.last + 1):
        start = (int(time.time()) // options.window + 1) * options.window
        time.sleep(max(0.0, start - time.time()))
        before = sender.sent, sum(sender.failures.values())
        predictions = replay_year(sender, record, year, start, options.window * 0.5)
        store.upload_labels(record, year)
        say(
            year=year,
            window_end=start + options.window,
            sent=sender.sent - before[0],
            failed=sum(sender.failures.values()) - before[1],
            failures=dict(sender.failures),
            log_loss=loss(rain.year(record, year).y, predictions),
        )
        wait_for_window(options.namespace, options.policies.split(","), start + options.window, options.limit)
    say(done=True, sent=sender.sent, failures=dict(sender.failures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
