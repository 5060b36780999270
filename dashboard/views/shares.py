"""How a model's parameters and operations are shared among its parts."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.views.charts import COLOURS, chart


def shares(names: Sequence[str], parameters: Sequence[int], gflop: Sequence[float]) -> go.Figure:
    """Two bars a part: its share of all parameters and of all operations, in percent."""
    figure = chart(x="share, %", y="", tall_px=120 + 46 * len(names))
    for number, (title, values) in enumerate((("parameters", parameters), ("operations", gflop))):
        whole = sum(values) or 1
        figure.add_bar(
            y=list(names), x=[100 * value / whole for value in values], orientation="h", name=title,
            marker={"color": COLOURS[number], "pattern": {"shape": "/" if number else ""}},
            hovertemplate="%{y}<br>" + title + " %{x:.1f} %<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25, legend={"y": -0.1, "traceorder": "normal"})
    figure.update_yaxes(categoryorder="array", categoryarray=list(names)[::-1], type="category")
    figure.update_xaxes(rangemode="tozero")
    return figure
