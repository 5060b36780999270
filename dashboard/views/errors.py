"""How far maps and severities are off: distributions, found against true, and Bland and Altman's picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from cmssd_core.evaluation.agreement import BlandAltman
from dashboard.views.charts import BENIGN, GUIDE, MALIGNANT, chart, guide

BINS = 20
MANY = 3000  # points; more are drawn by the graphics card
Values = npt.NDArray[np.float64]
Label = npt.NDArray[np.float64]  # 1 malignant, 0 benign, NaN unknown
KINDS = (("malignant", 1.0, MALIGNANT, "circle"), ("benign", 0.0, BENIGN, "square"))


def edges_of(values: Values, *, top: float | None = None) -> Values:
    """Edges of BINS equal bins from 0 to `top`, or to the largest value; what lies above is counted in the last."""
    highest = float(values.max()) if len(values) else 1.0
    return np.linspace(0, top if top is not None else max(highest, 1e-6), BINS + 1)


def distribution(values: Values, label: Label, *, title: str, top: float | None = None) -> go.Figure:
    """How many cases have which value, by truth; a bar's customdata is the number of its bin from 0."""
    figure = chart(x=title, y="cases", tall_px=330)
    edges = edges_of(values, top=top)
    words = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    if (values > edges[-1]).any():
        words[-1] = f"{edges[-2]:.3g} and more, up to {values.max():.3g}"
    for name, kind, colour, _ in (*KINDS, ("label unknown", np.nan, GUIDE, "")):
        mine = values[np.isnan(label) if np.isnan(kind) else label == kind]
        if not len(mine):
            continue
        counts = np.histogram(np.minimum(mine, edges[-1]), edges)[0]
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2, y=counts, name=f"{name} ({len(mine):,})", marker={"color": colour},
            width=np.diff(edges) * 0.94, customdata=np.arange(BINS),
            hovertext=words,
            hovertemplate=f"{name}: %{{y}} cases<br>%{{hovertext}}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack")
    tallest = int(np.histogram(np.minimum(values, edges[-1]), edges)[0].max())
    figure.update_yaxes(rangemode="tozero", tickformat=",d", **({"dtick": 1} if tallest < 6 else {}))
    figure.update_xaxes(range=[edges[0] - 0.01 * edges[-1], edges[-1] * 1.02])
    return figure


def severities(found: Values, truth: Values, label: Label, ids: Sequence[str]) -> go.Figure:
    """Severity found against true, a point a case; customdata is the case."""
    figure = chart(x="true severity, %", y="severity found, %", tall_px=420)
    top = float(max(10.0, found.max(initial=0), truth.max(initial=0))) * 1.05
    guide(figure, (0, top), (0, top))
    _points(figure, truth, found, label, ids, "true %{x:.1f} %<br>found %{y:.1f} %")
    figure.update_xaxes(range=[-0.03 * top, top])
    figure.update_yaxes(range=[-0.03 * top, top])
    return figure


def bland_altman(found: Values, truth: Values, label: Label, ids: Sequence[str], limits: BlandAltman) -> go.Figure:
    """Difference against mean, with bias and limits of agreement and their intervals as bands."""
    figure = chart(x="mean of found and true severity, %", y="found − true, points", tall_px=420)
    right = float(max(10.0, ((found + truth) / 2).max(initial=0))) * 1.05
    figure.update_layout(margin={"r": 120})
    for figure_of, words, anchor in (
        (limits.lower, "−1.96 SD", "top"), (limits.bias, "bias", "middle"), (limits.upper, "+1.96 SD", "bottom")
    ):  # fmt: skip
        if figure_of.value is None:
            continue
        if figure_of.low is not None and figure_of.high is not None:
            figure.add_hrect(y0=figure_of.low, y1=figure_of.high, fillcolor=GUIDE, opacity=0.16, line_width=0)
        figure.add_hline(y=figure_of.value, line={"color": GUIDE, "width": 1.5, "dash": "dot"}, layer="below")
        figure.add_annotation(
            x=1.01, xref="x domain", y=figure_of.value, xanchor="left", yanchor=anchor, showarrow=False,
            text=f"{words} {figure_of.value:+.1f}".replace("-", "−"), font={"size": 13},
        )  # fmt: skip
    hover = "mean %{x:.1f} %<br>difference %{y:+.1f} points"
    _points(figure, (found + truth) / 2, found - truth, label, ids, hover)
    figure.update_xaxes(range=[-0.03 * right, right])
    return figure


def bland_altman_alt(limits: BlandAltman) -> str:
    """Bias and limits in words."""
    if limits.bias.value is None or limits.lower.value is None or limits.upper.value is None:
        return "Bland-Altman plot of the severity; too few cases for limits of agreement"
    return (
        f"Bland-Altman plot of the severity: bias {limits.bias.value:+.1f} points, limits of agreement "
        f"{limits.lower.value:+.1f} to {limits.upper.value:+.1f}"
    )


def _points(figure: go.Figure, x: Values, y: Values, label: Label, ids: Sequence[str], hover: str) -> None:
    names = np.asarray(ids, dtype=object)
    draw = go.Scattergl if len(x) > MANY else go.Scatter
    for name, kind, colour, symbol in (*KINDS, ("label unknown", np.nan, GUIDE, "diamond")):
        mine = np.isnan(label) if np.isnan(kind) else label == kind
        if mine.any():
            figure.add_trace(
                draw(
                    x=x[mine], y=y[mine], mode="markers", name=name, customdata=names[mine],
                    marker={"color": colour, "symbol": symbol, "size": 9 if len(x) < 300 else 6, "opacity": 0.75},
                    hovertemplate=f"%{{customdata}}<br>{hover}<extra></extra>",
                )
            )  # fmt: skip
