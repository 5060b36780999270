"""Cases as points on a plane of features: colour and shape tell one column, the selected stand out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from cmssd_core.report.display import lut
from dashboard.views.charts import BENIGN, MALIGNANT

#: Okabe and Ito's colours, told apart by most people with a colour vision deficiency; black is left out (dark theme).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a6761d", "#6a51a3")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "pentagon", "star")
GREY, CURRENT = "#8b95a3", "#e0218a"
FAINT = 0.22
CONFIG = {
    "displaylogo": False,
    "scrollZoom": True,
    "displayModeBar": True,
    "modeBarButtonsToRemove": ["autoScale2d", "toImage", "zoomIn2d", "zoomOut2d"],
}


@dataclass(frozen=True, eq=False)
class Points:
    """What is drawn of each point: (point, 2) place, row of the table, words on hover, whether it is selected."""

    xy: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]
    words: Sequence[str]
    selected: npt.NDArray[np.bool_]


def by_label(
    points: Points, codes: npt.NDArray[np.int16], labels: Sequence[str], *, axes: tuple[str, str], tall_px: int = 430
) -> go.Figure:
    """Points in a colour and shape for each label; beyond eight labels the rarest share grey. The last = not known."""
    figure = _frame(axes, tall_px, showlegend=True)
    counts = np.bincount(codes, minlength=len(labels))
    ranked = [int(n) for n in np.argsort(-counts[:-1], kind="stable") if counts[n]][: len(COLOURS)]
    named = sorted(ranked)
    two = {"benign": BENIGN, "malignant": MALIGNANT}
    for place, code in enumerate(named):
        colour = two.get(labels[code], COLOURS[place])
        _add(figure, points, codes == code, labels[code], colour, SYMBOLS[place])
    rest = ~np.isin(codes, [*named, len(labels) - 1])
    _add(figure, points, rest, "others", GREY, "circle-open")
    _add(figure, points, codes == len(labels) - 1, labels[-1], GREY, "x-thin-open")
    return figure


def by_number(
    points: Points, values: npt.NDArray[np.float64], title: str, *, axes: tuple[str, str], tall_px: int = 430
) -> go.Figure:
    """Points coloured by a number, low dark to high bright; those that lack it are grey crosses."""
    figure = _frame(axes, tall_px, showlegend=False)
    present = np.isfinite(values)
    _add(figure, points, ~present, "not known", GREY, "x-thin-open")
    if present.any():
        table = lut("viridis")
        steps = [[n / 15, "rgb({},{},{})".format(*table[round(n * 17)])] for n in range(16)]
        marker = {
            "color": values[present], "colorscale": steps, "showscale": True,
            "colorbar": {"title": {"text": title, "side": "right"}, "thickness": 12, "outlinewidth": 0,
                         "tickfont": {"size": 13}},
        }  # fmt: skip
        _add(figure, points, present, title, None, "circle", marker)
    return figure


def add_current(figure: go.Figure, xy: npt.NDArray[np.float64], words: str) -> None:
    """A ring around the current case."""
    figure.add_scatter(
        x=[xy[0]], y=[xy[1]], mode="markers", name="current case", text=[words], showlegend=True,
        hovertemplate="%{text}<extra>current</extra>", selectedpoints=None,
        marker={"symbol": "circle-open", "size": 19, "color": CURRENT, "line": {"width": 3, "color": CURRENT}},
    )  # fmt: skip


def _add(
    figure: go.Figure,
    points: Points,
    mask: npt.NDArray[np.bool_],
    name: str,
    colour: str | None,
    symbol: str,
    marker: dict[str, object] | None = None,
) -> None:
    if not mask.any():
        return
    chosen = points.selected[mask]
    bright = np.where(chosen, 1.0, FAINT) if points.selected.any() else 0.8
    size = np.where(chosen, 10, 7) if points.selected.any() else 8
    look = {"symbol": symbol, "size": size, "opacity": bright, "line": {"width": 1.5 if "thin" in symbol else 0}}
    look |= {"color": colour} if colour is not None else marker or {}
    if colour is not None and "thin" in symbol:
        look["line"] = {"width": 1.5, "color": colour}
    figure.add_scatter(
        x=points.xy[mask, 0], y=points.xy[mask, 1], mode="markers", name=name, marker=look,
        customdata=points.rows[mask], text=[w for w, m in zip(points.words, mask, strict=True) if m],
        hovertemplate="%{text}<extra></extra>",
        # Streamlit fades what its own selection leaves out; fading is done above, for every maker of a selection.
        selected={"marker": {"opacity": 1.0}}, unselected={"marker": {"opacity": FAINT}},
    )  # fmt: skip


def _frame(axes: tuple[str, str], tall_px: int, *, showlegend: bool) -> go.Figure:
    summary = {
        name: {"title": {"text": words, "font": {"size": 14}}, "tickfont": {"size": 13}, "zeroline": False}
        for name, words in zip(("xaxis", "yaxis"), axes, strict=True)
    }
    return go.Figure(
        layout={
            "height": tall_px, "margin": {"l": 8, "r": 8, "t": 30, "b": 8}, "font": {"size": 14},
            "dragmode": "select", "showlegend": showlegend, "hoverlabel": {"font": {"size": 14}}, "uirevision": "plane",
            "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 14}},
            **summary,
        }
    )  # fmt: skip
