"""ROC and precision-recall curves of several answers, the first with its band and the point where one stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from cmssd_core.evaluation.roc import Band
from dashboard.views.charts import COLOURS, DASHES, band, chart, guide, unit

Points = Sequence[tuple[float, float]]
MOST = 2000  # points of a line; a screen has no more


def roc_curves(
    curves: Mapping[str, Points], *, bounds: Band | None = None, here: tuple[float, float] | None = None
) -> go.Figure:
    """Curves by name, the first on top; bounds: the band of the first; here: (1 - specificity, sensitivity) in use."""
    figure = chart(x="1 − specificity", y="sensitivity", tall_px=460)
    unit(figure)
    guide(figure, (0, 1), (0, 1))
    if bounds is not None:
        band(figure, bounds.fpr, bounds.low, bounds.high, COLOURS[0], "95 % band")
    _lines(figure, curves, "1 − specificity %{x:.3f}<br>sensitivity %{y:.3f}", shape="linear")
    if here is not None:
        _here(figure, here, "threshold in use<br>1 − specificity %{x:.3f}<br>sensitivity %{y:.3f}<extra></extra>")
    return figure


def precision_recall(
    curves: Mapping[str, Points], *, prevalence: float | None, here: tuple[float, float] | None = None
) -> go.Figure:
    """Curves by name as steps; prevalence: what calling everyone malignant gives; here: (sensitivity, PPV) in use."""
    figure = chart(x="recall (sensitivity)", y="precision (PPV)", tall_px=460)
    unit(figure)
    if prevalence is not None:
        guide(figure, (0, 1), (prevalence, prevalence), f"no skill ({prevalence:.2f})")
    steps = {name: [(0.0, points[0][1]), *points] for name, points in curves.items() if points}
    # The precision of a step holds for the recall that it wins: from the point before, vertically first.
    _lines(figure, steps, "recall %{x:.3f}<br>precision %{y:.3f}", shape="vh")
    if here is not None:
        _here(figure, here, "threshold in use<br>recall %{x:.3f}<br>precision %{y:.3f}<extra></extra>")
    return figure


def roc_alt(areas: Mapping[str, str]) -> str:
    """The areas in words, for those who cannot see the curves."""
    return "ROC curves; area under the curve of " + "; ".join(f"{name}: {area}" for name, area in areas.items())


def _lines(figure: go.Figure, curves: Mapping[str, Points], hover: str, *, shape: str) -> None:
    styles = list(zip(COLOURS, DASHES, strict=True))
    for number, (name, every) in reversed(list(enumerate(curves.items()))):
        points = [*every[:: 1 + len(every) // MOST], *every[-1:]]
        colour, dash = styles[number % len(styles)]
        figure.add_scatter(
            x=[x for x, _ in points], y=[y for _, y in points], mode="lines", name=name, legendrank=number,
            line={"color": colour, "dash": dash, "width": 3 if number == 0 else 2, "shape": shape},
            hovertemplate=f"{name}<br>{hover}<extra></extra>",
        )  # fmt: skip


def _here(figure: go.Figure, at: tuple[float, float], hover: str) -> None:
    figure.add_scatter(
        x=[at[0]], y=[at[1]], mode="markers", name="threshold in use", hovertemplate=hover, cliponaxis=False,
        marker={"size": 15, "color": "#f2c14e", "line": {"color": "#33373d", "width": 2}, "symbol": "diamond"},
    )  # fmt: skip
