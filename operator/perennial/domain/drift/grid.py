"""The fixed, data-independent grid on which routers count while a version has no baseline.

Signed logarithmic: four cells a decade from 1e-6 to 1e9 on both sides of one cell around zero, so the counts of any two
routers and any two windows may be added. Must not depend on any data, and must never change: counts outlive a release.
"""

_CELLS_PER_DECADE = 4
_SMALLEST, _LARGEST = -6, 9
GRID_DIGEST = "grid"
"""What a window says in `baseline` when it was counted on the grid."""

_POSITIVE = tuple(
    float(f"{10 ** (k / _CELLS_PER_DECADE):.6g}")
    for k in range(_SMALLEST * _CELLS_PER_DECADE, _LARGEST * _CELLS_PER_DECADE + 1)
)
GRID_EDGES = (*(-edge for edge in reversed(_POSITIVE)), *_POSITIVE)
"""Inner edges, strictly rising; cell i holds the values x with bisect_right(GRID_EDGES, x) == i."""
GRID_CATEGORIES = 64
"""How many different texts of one feature a router tells apart; the rest is counted as other."""
