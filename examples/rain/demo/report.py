"""The demo's two files: report.json (figures) and report.html (one self-contained page with the plots).

Pure: data in, text out. Must not talk to a cluster.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 260, 56, 34, 16, 150
LIMIT = "#999999"
COLOURS = ("#3366aa", "#cc5544", "#449966", "#aa7722")

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a plot; `steps` draws it as a staircase (weights, limits), `limit` dashes it in grey."""

    name: str
    points: Sequence[Point]
    steps: bool = False
    limit: bool = False


@dataclass(frozen=True)
class Plot:
    """One plot: series over a common x axis."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]


@dataclass
class Story:
    """Everything the page shows beside the figures."""

    timeline: list[tuple[float, str]] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    years: list[dict[str, Any]] = field(default_factory=list)
    git_log: list[str] = field(default_factory=list)


def ticks(low: float, high: float) -> list[float]:
    """About five round values from `low` to `high`."""
    span = high - low or 1.0
    step = 10 ** len(str(int(span))) / 10 if span >= 1 else 0.1
    while span / step > 6:
        step *= 2
    while span / step < 3:
        step /= 2
    first = int(low / step) * step
    return [round(first + i * step, 6) for i in range(9) if low - 1e-9 <= first + i * step <= high + 1e-9]


def plot_svg(plot: Plot) -> str:
    """One plot as inline SVG with axes, legend and a title for screen readers."""
    points = [p for s in plot.series for p in s.points]
    if not points:
        return f"<p>{escape(plot.title)}: nothing was observed.</p>"
    xs = [p[0] for p in points]
    ys = [p[1] for p in points]
    x0, x1 = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    y0, y1 = min(0.0, *ys), max(ys) * 1.08 if max(ys) > 0 else 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP), 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(plot.title)}">']
    parts += [_axis_lines(plot, at, (x0, x1), (y0, y1))]
    for number, series in enumerate(plot.series):
        colour = LIMIT if series.limit else COLOURS[number % len(COLOURS)]
        dashes = ' stroke-dasharray="5 4"' if series.limit else ""
        parts.append(f'<path d="{_path(series, at)}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        y = TOP + 14 + number * 18
        parts.append(f'<rect x="{WIDTH - RIGHT + 8}" y="{y - 9}" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 26}" y="{y - 3}">{escape(series.name)}</text>')
    return "".join([*parts, "</svg>"])


def _axis_lines(plot: Plot, at: Any, x_range: Point, y_range: Point) -> str:
    parts = []
    for value in ticks(*y_range):
        a, b = at(x_range[0], value)
        c, _ = at(x_range[1], value)
        parts.append(f'<line class="grid" x1="{a}" y1="{b}" x2="{c}" y2="{b}"/>')
        parts.append(f'<text class="end" x="{a - 6}" y="{b + 4}">{value:g}</text>')
    for value in ticks(*x_range):
        a, b = at(value, y_range[0])
        parts.append(f'<text class="mid" x="{a}" y="{b + 16}">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="mid" x="{middle}" y="{HEIGHT - 2}">{escape(plot.x_label)}</text>')
    parts.append(f'<text x="4" y="12">{escape(plot.y_label)}</text>')
    return "".join(parts)


def _path(series: Series, at: Any) -> str:
    commands: list[str] = []
    last: tuple[float, float] | None = None
    for x, y in series.points:
        a, b = at(x, y)
        if last is None:
            commands.append(f"M{a} {b}")
        else:
            commands.append(f"H{a}V{b}" if series.steps else f"L{a} {b}")
        last = (a, b)
    return "".join(commands)


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:860px;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
svg{width:100%;height:auto}svg text{font-size:11px;fill:#555}.mid{text-anchor:middle}.end{text-anchor:end}
.grid{stroke:#e5e5e5}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:right}td:first-child,th:first-child{text-align:left}
pre{background:#f6f6f6;padding:.75rem;overflow:auto}.when{color:#777;white-space:nowrap}
@media (prefers-color-scheme:dark){body{background:#16181c;color:#ddd}svg text{fill:#aaa}.grid{stroke:#333}
pre{background:#22252b}td,th{border-color:#444}}
"""


def page(figures: dict[str, Any], story: Story) -> str:
    """The whole HTML page: figures, plots, table by year, timeline, Git log. Needs no network."""
    rows = "".join(f"<tr><td>{escape(str(key))}</td><td>{_shown(value)}</td></tr>" for key, value in figures.items())
    years = "".join(
        f"<tr><td>{row['year']}</td><td>{_number(row.get('never'))}</td><td>{_number(row.get('perennial'))}</td></tr>"
        for row in story.years
    )
    start = story.timeline[0][0] if story.timeline else 0.0
    lines = "".join(
        f'<tr><td class="when">{when - start:.0f} s</td><td style="text-align:left">{escape(text)}</td></tr>'
        for when, text in story.timeline
    )
    plots = "".join(f"<h2>{escape(p.title)}</h2>{plot_svg(p)}" for p in story.plots)
    log = escape("\n".join(story.git_log))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Perennial: the rain example</title>'
        f"<style>{STYLE}</style></head><body><h1>Perennial: the rain example</h1>"
        f"<h2>Figures</h2><table>{rows}</table>{plots}"
        "<h2>Log loss by year</h2><table><tr><th>year</th><th>never retrained</th><th>Perennial</th></tr>"
        f"{years}</table>"
        f"<h2>What happened</h2><table>{lines}</table><h2>The repository</h2><pre>{log}</pre></body></html>"
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{escape(str(k))}: {escape(str(v))}" for k, v in value.items())
    if isinstance(value, list):
        return "<br>".join(_shown(item).replace("<br>", ", ") for item in value)
    return escape(str(value))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
