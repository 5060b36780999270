"""One figure in several groups: a point with its interval a line, and in words where there are too few."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from cmssd_core.evaluation.figure import Figure
from dashboard.views.charts import COLOURS, GUIDE, chart
from dashboard.views.wording import words


def forest(groups: Mapping[str, Figure], whole: Figure, *, title: str, unit: bool) -> go.Figure:
    """Groups top down; `whole` is the line of all cases. unit: the figure lies between 0 and 1."""
    names = list(groups)
    figure = chart(x=title, y="", tall_px=110 + 44 * max(len(names), 1), legend=False)
    known = [
        (name, f) for name, f in groups.items() if f.value is not None and f.low is not None and f.high is not None
    ]
    if whole.value is not None:
        figure.add_vline(x=whole.value, line={"color": GUIDE, "width": 1.5, "dash": "dot"}, layer="below")
        if whole.low is not None and whole.high is not None:
            figure.add_vrect(x0=whole.low, x1=whole.high, fillcolor=GUIDE, opacity=0.16, line_width=0, layer="below")
    figure.add_scatter(
        x=[f.value for _, f in known], y=[name for name, _ in known], mode="markers", cliponaxis=False,
        marker={"size": 12, "color": COLOURS[0]},
        error_x={"type": "data", "symmetric": False, "thickness": 2.5, "width": 6,
                 "array": [(f.high or 0) - (f.value or 0) for _, f in known],
                 "arrayminus": [(f.value or 0) - (f.low or 0) for _, f in known]},
        customdata=[words(f) for _, f in known], hovertemplate="%{y}: %{customdata}<extra></extra>",
    )  # fmt: skip
    ends = [edge for f in (*(f for _, f in known), whole) for edge in (f.low, f.high) if edge is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if unit:
        low, high = min(low, 0.8), 1.0
    room = 0.04 * (high - low or 1)
    figure.update_xaxes(range=[low - room, high + room])
    for name, f in groups.items():
        if f.value is None or f.low is None:
            figure.add_annotation(
                x=0.01, xref="x domain", xanchor="left", y=name, text=f"{f.reason or 'no interval'}, n = {f.n}",
                showarrow=False, font={"size": 14},
            )  # fmt: skip
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=names[::-1],
        type="category",
        showgrid=False,
        range=[-0.6, len(names) - 0.4],
    )
    return figure


def forest_alt(groups: Mapping[str, Figure], *, title: str) -> str:
    """Every group in words."""
    return f"{title} by group: " + "; ".join(f"{name} {words(f)}" for name, f in groups.items())
