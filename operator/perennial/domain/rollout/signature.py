"""The input signature of a revision as its model server tells it, and what differs between two of them. Pure.

A canary that wants other inputs than stable answers errors, or nonsense, to every client that was not changed with it;
so a person must know first. What no server tells is unknown, and unknown is not bad.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ANY = -1
"""A dimension of any size."""
MAX_TOLD = 3
NOT_THERE_YET = (429, 500, 502, 503, 504)
"""Answers of a server that is not quite there; any other than 200 means that it has no page with its inputs."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input in the words of the Open Inference Protocol v2; shape: sizes, or -1 for any."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def words(self) -> str:
        """Datatype and shape, for a sentence."""
        return f"{self.datatype} [{', '.join(str(size) for size in self.shape)}]"


Signature = tuple[Tensor, ...]


def read_signatures(told: Any) -> dict[str, Signature | None]:
    """Revision -> inputs from a router's page; None: the server does not tell. A revision left out was not read yet."""
    if not isinstance(told, Mapping):
        return {}
    return {str(revision): _read(inputs) for revision, inputs in told.items()}


def _read(inputs: Any) -> Signature | None:
    if not isinstance(inputs, list):
        return None
    try:
        return tuple(Tensor(str(i["name"]), str(i["datatype"]), tuple(int(n) for n in i["shape"])) for i in inputs)
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Compared:
    """known: whether the question is settled, be it that nobody can know; difference: what differs, in words."""

    known: bool
    difference: str | None = None


def compare(told: Iterable[Mapping[str, Signature | None]], stable: str, canary: str) -> Compared:
    """What the routers' words say about two revisions. One that has read both inputs settles it, a difference first;
    where none has, one whose server does not tell settles that nobody can know."""
    pairs = [(page[stable], page[canary]) for page in told if stable in page and canary in page]
    read = [difference(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    return Compared(bool(pairs), next((found for found in read if found is not None), None))


def difference(stable: Signature, canary: Signature) -> str | None:
    """What differs, in words; None when clients of the one can use the other. The order of inputs does not matter."""
    ours, theirs = ({tensor.name: tensor for tensor in side} for side in (stable, canary))
    found = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        left, right = ours.get(name), theirs.get(name)
        if left is not None and right is not None and _fits(left, right):
            continue
        told = [tensor.words if tensor is not None else "missing" for tensor in (left, right)]
        found.append(f'input "{name}" is {told[0]} in stable and {told[1]} in the canary')
    if not found:
        return None
    more = len(found) - MAX_TOLD
    return "; ".join(found[:MAX_TOLD]) + (f"; and {more} more" if more > 0 else "")


def _fits(one: Tensor, other: Tensor) -> bool:
    return (
        one.datatype == other.datatype
        and len(one.shape) == len(other.shape)
        and all(a == b or ANY in (a, b) for a, b in zip(one.shape, other.shape, strict=True))
    )
