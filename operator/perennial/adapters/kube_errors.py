"""What an answer of the Kubernetes API server means in our errors, with the server's own words.

Pure: it sees a status code, headers and a body. Must not talk to anything.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from perennial.domain.conditions import bounded
from perennial.domain.errors import Conflict, Forbidden, Invalid, PerennialError, Transient, Unavailable

MAX_WORDS = 900


def error_of(code: int, body: bytes | str | None, headers: Mapping[str, str] | None, what: str) -> PerennialError:
    """The error for an answer with an error `code`; `what` says which call it was, e.g. `get pods default/a`."""
    status = _status(body)
    words = bounded(str(status.get("message") or f"HTTP {code} without a message"), MAX_WORDS)
    details = (status.get("details") or {}).get("causes") or ()
    causes = [str(cause.get("reason")) for cause in details]
    if code == 422 and any(cause.get("field") == "metadata.uid" for cause in details):
        # Built-in kinds answer a uid precondition that fails with "field is immutable" instead of 409.
        return Conflict("Conflict", words)
    if code == 409:
        exists = status.get("reason") == "AlreadyExists"
        return Conflict("AlreadyExists" if exists else "Conflict", words)
    if code == 404:
        return _missing(status, words)
    if code == 403:
        return Forbidden(_forbidden_reason(causes, words), words)
    if code == 429 or code in (500, 502, 503, 504):
        after = retry_after(headers)
        if code == 429:
            return Transient("TooManyRequests", f"{what}: {words}", after)
        unavailable = Unavailable("ApiServerError", f"{what}: {words}")
        unavailable.retry_after = after
        return unavailable
    if code in (401, 408, 410):
        reason = {401: "Unauthorized", 408: "ApiServerTimeout", 410: "Expired"}[code]
        return Transient(reason, f"{what}: {words}")
    return Invalid(str(status.get("reason") or "Invalid"), words)


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Seconds of a Retry-After header; None when absent or not a number (the API server sends numbers only)."""
    text = (headers or {}).get("Retry-After", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        return None


def is_precondition(error: PerennialError) -> bool:
    """Whether a delete was refused because another uid has the name."""
    return isinstance(error, Conflict) and error.reason == "Conflict"


def _missing(status: Mapping[str, Any], words: str) -> PerennialError:
    details = status.get("details") or {}
    if details.get("kind") == "namespaces":
        return Invalid("NamespaceNotFound", words)
    if not details.get("name"):
        return Invalid("NoSuchKind", f"{words}: is the CustomResourceDefinition installed?")
    return Conflict("NotFound", words)


def _forbidden_reason(causes: list[str], words: str) -> str:
    if "NamespaceTerminating" in causes:
        return "NamespaceTerminating"
    return "QuotaExceeded" if "exceeded quota" in words else "Forbidden"


def _status(body: bytes | str | None) -> Mapping[str, Any]:
    try:
        decoded = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
        return {"message": " ".join(text.split())[:300]}
    return decoded if isinstance(decoded, dict) else {}
