"""How a column is spread over the cases that pass the filters, and over the selected ones, as shares of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

ALL, CHOSEN = "#7f8ea3", "#d55e00"
CONFIG = {
    "displaylogo": False,
    "displayModeBar": True,
    "modeBarButtonsToRemove": ["lasso2d", "autoScale2d", "toImage", "zoomIn2d", "zoomOut2d", "pan2d"],
}
Counts = npt.NDArray[np.int64]


def of_numbers(
    edges: npt.NDArray[np.float64], all_cases: Counts, chosen: Counts, title: str, *, tall_px: int = 300
) -> go.Figure:
    """A histogram. edges: one more than counts; chosen: all 0 where nothing is selected."""
    middle, wide = (edges[1:] + edges[:-1]) / 2, float(edges[1] - edges[0])
    words = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    return _bars(middle, wide, words, all_cases, chosen, title, tall_px, {"range": [float(edges[0]), float(edges[-1])]})


def of_labels(labels: Sequence[str], all_cases: Counts, chosen: Counts, title: str, *, tall_px: int = 300) -> go.Figure:
    """A bar for each label, at 0, 1, 2, ..."""
    places = np.arange(len(labels), dtype=np.float64)
    axis = {
        "range": [-0.6, len(labels) - 0.4],
        "tickvals": places,
        "ticktext": [name if len(name) < 22 else name[:20] + "…" for name in labels],
    }
    return _bars(places, 0.82, list(labels), all_cases, chosen, title, tall_px, axis)


def alt(title: str, shown: int, missing: int, chosen: int) -> str:
    """What the chart shows, for those who cannot see it."""
    more = f", beside {chosen} selected" if chosen else ""
    return f"{title}: its spread over {shown} cases{more}; {missing} lack it"


def _bars(
    places: npt.NDArray[np.float64],
    wide: float,
    words: list[str],
    all_cases: Counts,
    chosen: Counts,
    title: str,
    tall_px: int,
    axis: dict[str, object],
) -> go.Figure:
    named = {"text": title, "font": {"size": 14}}, {"text": "share, %", "font": {"size": 14}}
    figure = go.Figure(
        layout={
            "height": tall_px, "margin": {"l": 8, "r": 8, "t": 30, "b": 8}, "font": {"size": 14}, "barmode": "overlay",
            "dragmode": "select", "selectdirection": "h", "bargap": 0.04, "showlegend": True,
            "hoverlabel": {"font": {"size": 14}},
            "legend": {"orientation": "h", "x": 0, "y": -0.36, "yanchor": "top", "font": {"size": 14}},
            "xaxis": {"title": named[0], "tickfont": {"size": 13}, **axis},
            "yaxis": {"title": named[1], "tickfont": {"size": 13}, "rangemode": "tozero"},
        }
    )  # fmt: skip
    total, picked = int(all_cases.sum()), int(chosen.sum())
    groups = [(f"all shown, n = {total:,}", ALL, all_cases, total, 1.0)]
    if picked:
        groups.append((f"selected, n = {picked:,}", CHOSEN, chosen, picked, 0.55))
    for name, colour, counts, whole, part in groups:
        figure.add_bar(
            x=places, y=100 * counts / max(whole, 1), width=wide * 0.96 * part, name=name, marker={"color": colour},
            customdata=np.column_stack([places, counts]), text=words, textposition="none",
            hovertemplate="%{text}<br>%{customdata[1]:,} cases, %{y:.1f} %<extra>" + name + "</extra>",
            selected={"marker": {"opacity": 1.0}}, unselected={"marker": {"opacity": 0.85}},
        )  # fmt: skip
    return figure
