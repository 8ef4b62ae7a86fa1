"""The error tree that adapters raise and the control loop understands.

    PerennialError
    +-- Transient              try again with back-off (network, 5xx, 429, a lost race)
    |   +-- Conflict           409 on a write: somebody else wrote first; observe again
    |   +-- Unavailable        the other side cannot be reached or does not answer in time
    +-- Waiting                expected to come right by itself; look again after `retry_after` seconds
    +-- Stalled                a person or a commit must act; no retry until something changes
        +-- NameTaken          a child's name belongs to an object that is not ours
        +-- Forbidden          403: the account may not do it
        +-- Invalid            422/400: the server refuses the object

`decide` functions never raise these; they return a decision with a condition. Anything outside this tree is a bug.
Must not import anything but the standard library.
"""


class PerennialError(Exception):
    """Root of the tree; `reason` is a CamelCase word, `message` one sentence for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Transient(PerennialError):
    """May succeed when tried again; the queue backs off. `retry_after` seconds is a lower bound when given."""

    def __init__(self, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after


class Conflict(Transient):
    """The object changed between our read and our write (HTTP 409)."""


class Unavailable(Transient):
    """The other side did not answer (connection, time-out, 5xx)."""


class Waiting(PerennialError):
    """Something else must happen first; look again after `retry_after` seconds."""

    def __init__(self, reason: str, message: str, retry_after: float = 5.0) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after


class Stalled(PerennialError):
    """Only a person or a commit can resolve it."""


class NameTaken(Stalled):
    """An object of the wanted name exists and is owned by somebody else."""


class Forbidden(Stalled):
    """The API server (or another service) refuses the account the right."""


class Invalid(Stalled):
    """The API server refuses the object; the message carries its words."""
