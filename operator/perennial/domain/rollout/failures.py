"""Which answers count as failures, read from one revision's counters as a router serves them.

Must not compare arms or judge: it only turns codes into counts. Resets are those that the codes do not show; a request
counts once however it failed, so failures never exceed requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

FAILED_GRPC = frozenset({"2", "4", "8", "12", "13", "14", "15"})
CLIENT_CODES = frozenset({"400", "404", "405", "415", "422"})
"""Failures only beside concurrent stable traffic: a wrong schema answers these to all, a client's mistake hits both."""
CLIENT_GRPC = frozenset({"3", "5"})


@dataclass(frozen=True, slots=True)
class Arm:
    """Finished requests of one revision. failures: server-side; client_errors: those of CLIENT_CODES and CLIENT_GRPC;
    logged and slow: requests in the access log, and those of them above the latency limit."""

    requests: int = 0
    failures: int = 0
    client_errors: int = 0
    logged: int = 0
    slow: int = 0

    def __add__(self, other: "Arm") -> "Arm":
        return Arm(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Arm") -> "Arm":
        return Arm(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    @property
    def negative(self) -> bool:
        """Whether a difference of two readings runs backwards: the counters were reset in between."""
        return any(getattr(self, f.name) < 0 for f in fields(self))

    def failed(self, *, with_client_errors: bool) -> int:
        """Failed requests; client errors among them only beside concurrent stable traffic."""
        return min(self.requests, self.failures + (self.client_errors if with_client_errors else 0))


NOTHING = Arm()


def is_failure(code: str, failure_codes: frozenset[str]) -> bool:
    """Whether an HTTP code is a failure of the server, whoever else answers: 5xx, or what the spec calls one."""
    return code.startswith("5") or code in failure_codes


def read_arm(counters: Mapping[str, Any], failure_codes: frozenset[str]) -> Arm:
    """The counts in one `revisions.<revision>` entry of a router's counts page.

    requests are the finished ones (those with a code): a request that still hangs is neither good nor bad.
    failure_codes: further HTTP codes that the deployment's spec calls failures (such as "429").
    """
    codes = {str(code): int(count) for code, count in counters.get("codes", {}).items()}
    grpc = {str(code): int(count) for code, count in counters.get("grpc", {}).items()}
    latency = counters.get("latency", {})
    requests = sum(codes.values())
    failed = sum(count for code, count in codes.items() if is_failure(code, failure_codes))
    failed += sum(count for code, count in grpc.items() if code in FAILED_GRPC)
    failed += int(counters.get("resets", 0))
    client = sum(count for code, count in codes.items() if code in CLIENT_CODES - failure_codes)
    client += sum(count for code, count in grpc.items() if code in CLIENT_GRPC)
    return Arm(
        requests=requests,
        failures=min(requests, failed),
        client_errors=client,
        logged=int(latency.get("logged", 0)),
        slow=int(latency.get("overLimit", 0)),
    )
