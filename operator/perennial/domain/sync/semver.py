"""The newest tag in a version range, by the rules of semver.org: `>=1.0.0 <2.0.0`, `^1.2`, `~1.2.3`, `1.x`, `*`, `||`.

Pre-releases count only when the range itself names one of the same major.minor.patch. Must not know about Git.
"""

import re
from collections.abc import Iterable

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?\Z")
_TERM = re.compile(r"(>=|<=|>|<|=|\^|~)?\s*v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(?:-([0-9A-Za-z.-]+))?\Z")

Version = tuple[int, int, int, tuple[tuple[int, int, str], ...]]
_RELEASE = ((2, 0, ""),)
Bound = tuple[str, Version]


def parse(text: str) -> Version | None:
    """A comparable version; None when the text is none."""
    found = _VERSION.match(text)
    if found is None:
        return None
    return int(found[1]), int(found[2]), int(found[3]), _pre(found[4])


def _pre(text: str | None) -> tuple[tuple[int, int, str], ...]:
    if text is None:
        return _RELEASE
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in text.split("."))


def newest(tags: Iterable[str], wanted: str) -> str | None:
    """The tag with the highest version in the range, None when none is in it or the range is not one."""
    ranges = [bounds for part in wanted.split("||") if (bounds := _bounds(part.strip())) is not None]
    found = [(version, tag) for tag in tags if (version := parse(tag)) is not None]
    fitting = [item for item in found if any(_fits(item[0], bounds) for bounds in ranges)]
    return max(fitting)[1] if fitting else None


def _fits(version: Version, bounds: list[Bound]) -> bool:
    tests = {
        ">=": lambda limit: version >= limit,
        "<=": lambda limit: version <= limit,
        ">": lambda limit: version > limit,
        "<": lambda limit: version < limit,
    }
    if version[3] != _RELEASE and not any(limit[:3] == version[:3] and limit[3] != _RELEASE for _, limit in bounds):
        return False
    return all(tests[sign](limit) for sign, limit in bounds)


def _bounds(text: str) -> list[Bound] | None:
    bounds: list[Bound] = []
    for term in re.sub(r"(>=|<=|>|<|=|\^|~)\s+", r"\1", text).replace(",", " ").split():
        found = _TERM.match(term)
        if found is None:
            return None
        numbers = [int(part) if part is not None and part.isdigit() else None for part in found.group(2, 3, 4)]
        known = next((n for n, part in enumerate(numbers) if part is None), 3)
        low: Version = (numbers[0] or 0, numbers[1] or 0, numbers[2] or 0, _pre(found[5]))
        bounds += _expanded(found[1] or "=", low, known)
    return bounds or [(">=", (0, 0, 0, _RELEASE))] if text else None


def _expanded(sign: str, low: Version, known: int) -> list[Bound]:
    """Plain comparisons for one term; `known` is how many of its numbers were given."""
    if sign in (">", "<", ">=", "<="):
        if sign in (">", "<=") and known < 3:
            return [(">=" if sign == ">" else "<", _after(low, known))]
        return [(sign, low)]
    if sign == "^":
        fixed = next((n for n in range(3) if low[n]), 2) + 1
        return [(">=", low), ("<", _after(low, min(fixed, known)))]
    if sign == "~":
        return [(">=", low), ("<", _after(low, min(2, known)))]
    return [(">=", low), ("<=", low)] if known == 3 else [(">=", low), ("<", _after(low, known))]


def _after(version: Version, count: int) -> Version:
    """The first version above all that share the first `count` numbers."""
    if count == 0:
        return 1 << 62, 0, 0, ()
    head = [*version[: count - 1], version[count - 1] + 1, *([0] * (3 - count))]  # type: ignore[operator]
    return head[0], head[1], head[2], ()  # type: ignore[return-value]
