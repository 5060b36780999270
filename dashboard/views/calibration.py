"""Whether p means what it says: the share malignant against the p given; and what acting on p gains."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from cmssd_core.evaluation.calibration import Bin
from cmssd_core.evaluation.decision_curve import Curve
from dashboard.views.charts import COLOURS, GUIDE, band, chart, guide, unit


def reliability(bins: Sequence[Bin]) -> go.Figure:
    """A point a tenth of p with its interval, hollow where too few cases give none; below, how many they are."""
    figure = chart(x="probability given", y="share that is malignant", tall_px=420, legend=False)
    unit(figure)
    guide(figure, (0, 1), (0, 1))
    most = max((b.malignant.n for b in bins), default=1)
    figure.add_bar(
        x=[(b.from_p + b.to_p) / 2 for b in bins], y=[0.16 * b.malignant.n / most for b in bins], width=0.09,
        marker={"color": GUIDE, "opacity": 0.35}, customdata=[b.malignant.n for b in bins],
        hovertemplate="%{customdata} cases<extra></extra>",
    )  # fmt: skip
    for sure in (True, False):
        some = [b for b in bins if (b.malignant.low is not None) == sure]
        value = [b.malignant.value or 0.0 for b in some]
        whiskers = {
            "type": "data", "symmetric": False, "thickness": 2, "width": 5, "visible": sure,
            "array": [(b.malignant.high or 0.0) - v for b, v in zip(some, value, strict=True)],
            "arrayminus": [v - (b.malignant.low or 0.0) for b, v in zip(some, value, strict=True)],
        }  # fmt: skip
        figure.add_scatter(
            x=[b.mean_p for b in some], y=value, mode="markers", error_y=whiskers, cliponaxis=False,
            marker={"size": 11, "color": COLOURS[0], "symbol": "circle" if sure else "circle-open"},
            customdata=[[b.malignant.n, "" if sure else ", too few for an interval"] for b in some],
            hovertemplate="p %{x:.3f}<br>malignant %{y:.3f}<br>n = %{customdata[0]}%{customdata[1]}<extra></extra>",
        )  # fmt: skip
    return figure


def reliability_alt(bins: Sequence[Bin]) -> str:
    """The table in words."""
    summary = [f"p about {b.mean_p:.2f}: {b.malignant.value or 0:.2f} of {b.malignant.n}" for b in bins]
    return "Share of malignant cases by the probability given: " + "; ".join(summary)


def decision(curve: Curve, *, at: float | None = None) -> go.Figure:
    """Net benefit of acting on p, on all and on none; at: the threshold in use."""
    figure = chart(x="threshold probability", y="net benefit, true positives a patient", tall_px=420)
    if curve.low is not None and curve.high is not None:
        band(figure, curve.thresholds, curve.low, curve.high, COLOURS[0], "95 % band")
    for name, values, colour, dash in (
        ("act on this model", curve.model, COLOURS[0], "solid"),
        ("act on all", curve.treat_all, COLOURS[1], "dash"),
        ("act on none", (0.0,) * len(curve.thresholds), COLOURS[5], "dot"),
    ):
        figure.add_scatter(
            x=curve.thresholds, y=values, mode="lines", name=name, line={"color": colour, "dash": dash, "width": 2.5},
            hovertemplate=f"{name}<br>threshold %{{x:.2f}}<br>net benefit %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    if at is not None and 0 < at < 1:
        figure.add_vline(x=at, line={"color": GUIDE, "width": 1.5, "dash": "dot"}, layer="below")
    top = max(curve.prevalence, *(curve.high or curve.model))
    figure.update_yaxes(range=[-0.25 * top - 0.01, 1.1 * top + 0.01])
    figure.update_xaxes(range=[0, 1])
    return figure


def decision_alt(curve: Curve) -> str:
    """Where acting on the model beats acting on all and on none."""
    better = [
        t for t, model, everyone in zip(curve.thresholds, curve.model, curve.treat_all, strict=True)
        if model > max(everyone, 0.0) + 1e-9
    ]  # fmt: skip
    summary = f"between thresholds {min(better):.2f} and {max(better):.2f}" if better else "at no threshold"
    return f"Decision curve of {curve.n} cases: acting on the model gains more than on all or on none {summary}"
