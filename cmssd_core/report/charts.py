"""Charts as inline SVG: curves, points and whiskers in a frame with axes; colours are classes of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from cmssd_core.report.display import round_length

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """What is drawn in one colour. whiskers: (low, high) of each point. Its class is s0, s1, ... by place.

    line: joined; dots: radius of the points, 0 = none.
    """

    name: str
    points: Sequence[Point]
    whiskers: Sequence[tuple[float, float] | None] = ()
    line: bool = True
    dots: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Range, label and ticks; `ticks` None = round numbers."""

    low: float
    high: float
    label: str = ""
    ticks: Sequence[float] | None = None

    def marks(self) -> list[float]:
        """The ticks."""
        if self.ticks is not None:
            return list(self.ticks)
        step = round_length((self.high - self.low) / 4)
        first = np.ceil(self.low / step - 1e-9)
        count = int((self.high - first * step) / step + 1e-9) + 1
        return [float(round((first + n) * step, 10)) for n in range(count)]


def chart(
    series: Sequence[Series],
    *,
    x: Axis,
    y: Axis,
    says: str,
    size: tuple[int, int] = (460, 380),
    guides: Sequence[tuple[Point, Point]] = (),
    legend: bool = True,
) -> str:
    """One SVG. says: what it shows, for those who cannot see it. guides: dashed lines between two points."""
    width, height = size
    left, right, top, bottom = 52, 12, 10, 42
    across, down = width - left - right, height - top - bottom

    def place(point: Point) -> tuple[float, float]:
        px = left + (point[0] - x.low) / (x.high - x.low) * across
        return round(px, 1), round(top + (y.high - point[1]) / (y.high - y.low) * down, 1)

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(says)}">']
    for mark in y.marks():
        _, at = place((x.low, mark))
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{left - 7}" y="{at + 4}" text-anchor="end">{mark:g}</text>')
    for mark in x.marks():
        at, _ = place((mark, y.low))
        parts.append(f'<text x="{at}" y="{height - bottom + 17}" text-anchor="middle">{mark:g}</text>')
    parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{across}" height="{down}"/>')
    middle = left + across / 2
    parts.append(f'<text x="{middle}" y="{height - 6}" text-anchor="middle">{escape(x.label)}</text>')
    turned = f"rotate(-90 12 {top + down / 2})"
    parts.append(
        f'<text x="12" y="{top + down / 2}" text-anchor="middle" transform="{turned}">{escape(y.label)}</text>'
    )
    for start, end in guides:
        (x1, y1), (x2, y2) = place(start), place(end)
        parts.append(f'<line class="guide" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    for number, each in enumerate(series):
        parts += _drawn(each, f"s{number % 6}", [place(p) for p in each.points], place)
    parts.append("</svg>")
    keys = "".join(f'<span><i class="s{n % 6}"></i>{escape(each.name)}</span>' for n, each in enumerate(series))
    return "".join(parts) + (f'<p class="legend">{keys}</p>' if legend and keys else "")


def _drawn(series: Series, kind: str, places: list[Point], place: object) -> list[str]:
    parts = []
    if series.line and len(places) > 1:
        parts.append(f'<polyline class="{kind}" points="{" ".join(f"{px},{py}" for px, py in places)}"/>')
    assert callable(place)
    for (px, _), (at, _), whisker in zip(places, series.points, series.whiskers, strict=False):
        if whisker is not None:
            (_, low), (_, high) = place((at, whisker[0])), place((at, whisker[1]))
            parts.append(f'<line class="{kind}" x1="{px}" x2="{px}" y1="{low}" y2="{high}"/>')
    if series.dots:
        parts += [f'<circle class="{kind}" cx="{px}" cy="{py}" r="{series.dots}"/>' for px, py in places]
    return parts
