"""A gate of an audit as a figure: its value with its interval against what it is held to, controls beside scores."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.views import charts

PASS, FAIL = "#2f9e79", "#b6377a"


def against(
    value: float, low: float | None, high: float | None, threshold: float | None, *, below: bool, title: str
) -> go.Figure:
    """One value with its interval, and the side of the threshold on which the gate passes. below: the lower side."""
    figure = charts.chart(x=title, y="", tall_px=190, legend=False)
    ends = [edge for edge in (value, low, high, threshold, 0.0) if edge is not None]
    room = 0.15 * (max(ends) - min(ends) or 1.0)
    left, right = min(ends) - room, max(ends) + room
    if threshold is not None:
        sides = ((left, threshold), (threshold, right)) if below else ((threshold, right), (left, threshold))
        for (start, end), colour, word in zip(sides, (PASS, FAIL), ("passes", "does not pass"), strict=True):
            figure.add_vrect(
                x0=start, x1=end, fillcolor=colour, opacity=0.13, line_width=0, layer="below",
                annotation={"text": word, "font": {"size": 13, "color": charts.GUIDE}},
                annotation_position="top left" if start == left else "top right",
            )  # fmt: skip
        figure.add_vline(x=threshold, line={"color": charts.GUIDE, "width": 2, "dash": "dot"})
    known = low is not None and high is not None
    figure.add_scatter(
        x=[value], y=[""], mode="markers", marker={"size": 14, "color": charts.COLOURS[0]}, cliponaxis=False,
        error_x={"type": "data", "symmetric": False, "visible": known, "thickness": 3, "width": 8,
                 "array": [(high - value) if high is not None else 0],
                 "arrayminus": [(value - low) if low is not None else 0]},
        hovertemplate=f"%{{x:.3g}}{f'<br>95 %: {low:.3g} to {high:.3g}' if known else ''}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(range=[left, right])
    figure.update_yaxes(visible=False)
    return figure


def beside(scores: Sequence[tuple[str, float]]) -> go.Figure:
    """The map's enrichment first, its controls below it; 1 is chance."""
    figure = charts.chart(
        x="enrichment on the criterion, 1 = chance", y="", tall_px=90 + 38 * len(scores), legend=False
    )
    figure.add_bar(
        x=[score for _, score in scores], y=[name for name, _ in scores], orientation="h", textposition="outside",
        text=[f"{score:.1f}" for _, score in scores], textfont={"size": 14}, cliponaxis=False,
        marker={"color": [charts.COLOURS[0] if n == 0 else charts.GUIDE for n in range(len(scores))]},
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )  # fmt: skip
    figure.add_vline(x=1, line={"color": charts.GUIDE, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(range=[0, 1.15 * max(1.2, *(score for _, score in scores))])
    figure.update_yaxes(categoryorder="array", categoryarray=[name for name, _ in scores][::-1], type="category")
    return figure


def beside_alt(scores: Sequence[tuple[str, float]]) -> str:
    """Every score in words."""
    return "Enrichment on the criterion: " + "; ".join(f"{name} {score:.2f}" for name, score in scores)
