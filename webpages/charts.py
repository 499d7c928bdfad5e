"""Small charts as SVG, made where the page is made. Each says in words what it shows; colours come from the stylesheet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from markupsafe import Markup, escape

# Steps of a heat map, from none to all.
HEAT_STEPS = 5
# The grid that charts are drawn on; the stylesheet gives them their size.
_WIDTH, _HEIGHT = 300.0, 60.0
_GAP_SHARE = 0.25
_CELL_HEIGHT = 24
# A day with a little stays visible beside one with a lot.
_LEAST_HEIGHT = 2.0


def bar(share: float, label: str) -> Markup:
    """A horizontal bar, filled by `share` (0 to 1; what lies outside is cut off). `label` says it in words."""
    width = _within(share) * 100
    return _svg(
        "bar",
        100,
        8,
        label,
        Markup('<rect class="track" width="100" height="8"/><rect class="fill" width="{:.2f}" height="8"/>').format(width),
    )


def range_bar(share: float, low: float, high: float, label: str) -> Markup:
    """A bar of `share` with the range in which it may lie, all from 0 to 1."""
    inner = Markup(
        '<rect class="track" width="100" height="8"/><rect class="fill" width="{:.2f}" height="8"/>'
        '<rect class="range" x="{:.2f}" width="{:.2f}" y="3" height="2"/>'
    ).format(_within(share) * 100, _within(low) * 100, (_within(high) - _within(low)) * 100)
    return _svg("bar", 100, 8, label, inner)


def columns(values: Sequence[float], names: Sequence[str], label: str, top: float = 0.0) -> Markup:
    """A column for each value, none below zero; `names` are shown for each under the pointer.

    The highest is as high as the chart, or `top` is, which several charts may share.
    """
    top = max([*values, top]) or 1.0
    step = _WIDTH / max(1, len(values))
    parts = []
    for place, (value, name) in enumerate(zip(values, names, strict=True)):
        height = max(_LEAST_HEIGHT, value / top * _HEIGHT) if value > 0 else 0.0
        parts.append(
            Markup('<g><title>{}</title><rect class="ground" x="{:.2f}" width="{:.2f}" height="{:g}"/>').format(
                name, place * step, step, _HEIGHT
            )
            + Markup('<rect class="fill" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" rx="2"/></g>').format(
                (place + _GAP_SHARE / 2) * step, _HEIGHT - height, step * (1 - _GAP_SHARE), height
            )
        )
    return _svg("columns", _WIDTH, _HEIGHT, label, Markup("").join(parts))


def sparkline(values: Sequence[float], label: str, ends: tuple[float, float] | None = None) -> Markup:
    """A line through the values, from the lowest to the highest or between `ends`, which several lines may share; one value is a flat line."""
    drawn = [*values] * (2 if len(values) == 1 else 1)
    low, high = ends or ((min(drawn), max(drawn)) if drawn else (0.0, 0.0))
    span, step = (high - low) or 1.0, _WIDTH / max(1, len(drawn) - 1)
    points = " ".join(f"{place * step:.2f},{_HEIGHT - 3 - (value - low) / span * (_HEIGHT - 6):.2f}" for place, value in enumerate(drawn))
    return _svg("sparkline", _WIDTH, _HEIGHT, label, Markup('<polyline points="{}"/>').format(points))


def heat(share: float | None, label: str, text: str = "") -> Markup:
    """A cell of a heat map: the darker, the more (0 to 1); None is a cell about which nothing is known. `text`, a few characters, stands in it."""
    step = "none" if share is None else str(min(HEAT_STEPS - 1, int(_within(share) * HEAT_STEPS)))
    inner = Markup('<rect width="48" height="28" rx="4"/><text x="24" y="19" text-anchor="middle">{}</text>').format(text)
    return _svg(f"heat heat-{step}", 48, 28, label, inner, stretched=False)


class StripCell(NamedTuple):
    """A cell of a strip: `step` names its colour in the stylesheet, `text` stands in it, `title` is shown under the pointer."""

    step: str
    text: str
    title: str


def strip(cells: Sequence[StripCell], label: str, cell_width: int = 36) -> Markup:
    """A row of a heat map.

    There may be a thousand cells on a page, so this writes the text itself: every value in it is escaped here.
    """
    parts = []
    for place, (step, text, title) in enumerate(cells):
        x = place * cell_width
        shown = f'<text x="{x + cell_width / 2:g}" y="17">{escape(text)}</text>' if text else ""
        drawn = f'<rect x="{x}" width="{cell_width}" height="{_CELL_HEIGHT}"/>{shown}'
        parts.append(f'<g class="step-{escape(step)}"><title>{escape(title)}</title>{drawn}</g>')
    return _svg("strip", max(1, len(cells)) * cell_width, _CELL_HEIGHT, label, _drawn(parts), sized=True)


def dense_strip(steps: Sequence[str], label: str) -> Markup:
    """A row of a large heat map: narrow cells by their steps, which share the width there is; those of step `none` are left out.

    One shape for each step, a piece of it for each run of cells: of thousands of cells a page holds a few hundred elements.
    """
    shapes: dict[str, list[str]] = {}
    at = 0
    for step, run in groupby(steps):
        n = len(list(run))
        if step != "none":
            shapes.setdefault(step, []).append(f"M{at} 0h{n}v{_CELL_HEIGHT}h-{n}z")
        at += n
    parts = [f'<path class="step-{escape(step)}" d="{"".join(runs)}"/>' for step, runs in shapes.items()]
    return _svg("strip dense", max(1, at), _CELL_HEIGHT, label, _drawn(parts))


def strip_head(heads: Sequence[tuple[str, str]], cell_width: int = 36) -> Markup:
    """The names of columns above strips, for the eye alone: (short name, title), the title under the pointer."""
    at = Markup('<text x="{:g}" y="14"><title>{}</title>{}</text>')
    parts = [at.format((place + 0.5) * cell_width, title, number) for place, (number, title) in enumerate(heads)]
    width = max(1, len(heads)) * cell_width
    head = Markup(
        '<svg class="chart strip strip-head" viewBox="0 0 {0:g} 18" width="{0:g}" height="18" aria-hidden="true" focusable="false">'
    )
    return head.format(width) + Markup("").join(parts) + Markup("</svg>")


def strip_parts(parts: Sequence[tuple[str, int]]) -> Markup:
    """The names of what stands in dense strips, above them and for the eye alone: (name, how many columns), cut off where it has no more room."""
    whole = sum(n for _, n in parts) or 1
    drawn, at = [], 0.0
    for name, n in parts:
        width = n / whole * 100
        shown = f'<title>{escape(name)}</title><line y2="20"/><text x="4" y="14">{escape(name)}</text>'
        drawn.append(f'<svg x="{at:.2f}%" width="{width:.2f}%" height="20">{shown}</svg>')
        at += width
    return Markup('<svg class="strip-parts" height="20" aria-hidden="true" focusable="false">') + _drawn(drawn) + Markup("</svg>")


def shares(parts: Sequence[tuple[str, int]], label: str) -> Markup:
    """One bar that is divided among parts of (step, how many), in this order; steps as in `strip`."""
    whole = sum(n for _, n in parts) or 1
    drawn, x = [], 0.0
    for step, n in parts:
        if n:
            width = n / whole * 100
            drawn.append(f'<g class="step-{escape(step)}"><rect x="{x:.2f}" width="{width:.2f}" height="8"/></g>')
            x += width
    return _svg("bar", 100, 8, label, _drawn(drawn))


def _drawn(parts: Sequence[str]) -> Markup:
    """What is written by the thousand; whoever wrote it has escaped all but numbers. Markup.format takes five times as long."""
    return Markup("".join(parts))  # noqa: S704


def _svg(kind: str, width: float, height: float, label: str, inner: Markup, *, stretched: bool = True, sized: bool = False) -> Markup:
    """`stretched`: fills its box, whatever its shape. `sized`: as large as it is drawn, where there is room."""
    ratio = Markup(' preserveAspectRatio="none"') if stretched else ""
    size = Markup(' width="{:g}" height="{:g}"').format(width, height) if sized else ""
    head = Markup('<svg class="chart {}" viewBox="0 0 {:g} {:g}"{}{} role="img" aria-label="{}" focusable="false">')
    return head.format(kind, width, height, size, ratio, label) + inner + Markup("</svg>")


def _within(share: float) -> float:
    return min(1.0, max(0.0, share))
