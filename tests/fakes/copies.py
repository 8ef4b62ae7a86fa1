"""Copies of JSON values for the fakes, which copy whatever goes in and out."""

import copy
from typing import Any

_ATOMS = (str, int, bool, float, type(None))


def copied(value: Any) -> Any:
    """A deep copy; several times faster than `copy.deepcopy` for JSON, the same for anything else."""
    kind = type(value)
    if kind is dict:
        return {key: copied(item) for key, item in value.items()}
    if kind is list:
        return [copied(item) for item in value]
    return value if kind in _ATOMS else copy.deepcopy(value)
