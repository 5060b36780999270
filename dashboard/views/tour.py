"""Figures of the guided tour: bare images, severity and probability by patient, each input alone, a miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from cmssd_core.cases.modalities import describe_given
from cmssd_core.report.display import lay_out
from cmssd_core.types import BoolArray, Prediction, Volume
from cmssd_core.volume.contrasts import contrast_label
from dashboard.views import charts, mri

TRUTH = "#e69f00"


@dataclass(frozen=True)
class Record:
    """What is known of one demo patient and what the model said; None = not there. name: of the tour alone."""

    name: str
    malignant: bool
    p: float | None
    p_mri: float | None
    p_slide: float | None
    severity: float | None
    severity_low: float | None
    severity_high: float | None
    severity_true: float | None


def bare_slice(volume: Volume, prediction: Prediction, *, index: int, contrast: str, tall_px: int = 460) -> go.Figure:
    """An MRI slice and nothing over it."""
    figure = mri.tumour_slice(volume, prediction, index=index, contrast=contrast, opacity=0.0, tall_px=tall_px)
    figure.data = figure.data[:1]
    figure.data[0].hovertemplate = f"{contrast_label(contrast)} %{{z:.4g}}<extra></extra>"
    return figure


def missed_slice(
    volume: Volume, prediction: Prediction, truth: BoolArray, *, index: int, contrast: str, tall_px: int = 460
) -> go.Figure:
    """The tumour map of a slice with the true tumour's edge, dashed, over it."""
    figure = mri.tumour_slice(volume, prediction, index=index, contrast=contrast, opacity=0.5, tall_px=tall_px)
    layout = lay_out(volume.affine, truth.shape)
    figure.add_contour(
        z=layout.slice_of(truth.astype(np.float32), index), x0=layout.col_mm / 2, dx=layout.col_mm,
        y0=layout.row_mm / 2, dy=layout.row_mm, showscale=False, hoverinfo="skip",
        line={"color": TRUTH, "width": 3, "dash": "dash"}, autocontour=False,
        contours={"coloring": "none", "start": 0.5, "end": 0.5, "size": 1},
    )  # fmt: skip
    return figure


def severities(summary: Sequence[Record], *, marked: str) -> go.Figure:
    """Severity with its interval against the known one; the marked patient stands out."""
    figure = charts.chart(x="known severity, %", y="severity from the model, %", tall_px=460, legend=False)
    shown = [t for t in summary if t.severity is not None and t.severity_true is not None]
    charts.guide(figure, (0, 100), (0, 100))
    for mine, size, colour in ((False, 11, charts.COLOURS[0]), (True, 17, charts.COLOURS[1])):
        some = [t for t in shown if (t.name == marked) is mine]
        figure.add_scatter(
            x=[t.severity_true for t in some], y=[t.severity for t in some], mode="markers",
            marker={"size": size, "color": colour, "symbol": "diamond" if mine else "circle"},
            error_y={"type": "data", "symmetric": False, "thickness": 2.5, "width": 6,
                     "array": [max(0.0, (t.severity_high or 0) - (t.severity or 0)) for t in some],
                     "arrayminus": [max(0.0, (t.severity or 0) - (t.severity_low or 0)) for t in some]},
            customdata=[(t.name, t.severity_low, t.severity_high) for t in some],
            hovertemplate="%{customdata[0]}: %{y:.1f} % (%{customdata[1]:.1f} to %{customdata[2]:.1f})<br>"
            "known %{x:.1f} %<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(range=[-3, 103])
    figure.update_yaxes(range=[-3, 103])
    return figure


def probabilities(summary: Sequence[Record]) -> go.Figure:
    """Each patient's probability of malignancy in two rows: known malignant, known benign."""
    figure = charts.chart(x="probability of malignancy", y="", tall_px=340, legend=False)
    rows = ((True, "malignant", charts.MALIGNANT, "diamond"), (False, "benign", charts.BENIGN, "circle"))
    for malignant, name, colour, symbol in rows:
        some = sorted((t for t in summary if t.malignant is malignant and t.p is not None), key=lambda t: t.p or 0.0)
        lift = [0.16 * (n % 3 - 1) for n in range(len(some))]  # so that neighbours do not hide each other
        figure.add_scatter(
            x=[t.p for t in some], y=[(1.0 if malignant else 0.0) + up for up in lift], mode="markers",
            marker={"size": 15, "color": colour, "symbol": symbol, "line": {"width": 1, "color": "#ffffff"}},
            customdata=[t.name for t in some],
            hovertemplate=f"%{{customdata}}, known {name}: %{{x:.3f}}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=0.5, line={"color": charts.GUIDE, "width": 2, "dash": "dot"})
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.6, 1.6], tickvals=[0, 1], ticktext=["known benign", "known malignant"])
    return figure


def alone(summary: Sequence[Record]) -> go.Figure:
    """The probability of each malignant patient that has both inputs: from the MRI alone, the slide alone, both."""
    some = complete(summary)
    figure = charts.chart(x="probability of malignancy", y="", tall_px=130 + 46 * len(some))
    names = [t.name for t in some]
    for t in some:
        ends = [p for p in (t.p, t.p_mri, t.p_slide) if p is not None]
        charts.guide(figure, (min(ends), max(ends)), (t.name, t.name))
    kinds = (
        (describe_given("mri"), "p_mri", charts.COLOURS[0], "square"),
        (describe_given("he"), "p_slide", charts.COLOURS[1], "diamond"),
        ("both", "p", charts.COLOURS[2], "circle"),
    )  # fmt: skip
    for label, field, colour, symbol in kinds:
        figure.add_scatter(
            x=[getattr(t, field) for t in some], y=names, mode="markers", name=label,
            marker={"size": 14, "color": colour, "symbol": symbol},
            hovertemplate=f"%{{y}}, {label}: %{{x:.3f}}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=0.5, line={"color": charts.GUIDE, "width": 2, "dash": "dot"})
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names[::-1])
    figure.update_layout(legend={"y": 1.02, "yanchor": "bottom"})
    return figure


def complete(summary: Sequence[Record]) -> list[Record]:
    """The malignant patients of whom both inputs, and so all three answers, are there."""
    return [t for t in summary if t.malignant and t.p is not None and t.p_mri is not None and t.p_slide is not None]


def alone_alt(summary: Sequence[Record]) -> str:
    """Every patient in words."""
    words = "; ".join(f"{t.name} {t.p_mri:.2f}, {t.p_slide:.2f}, {t.p:.2f}" for t in complete(summary))
    return f"Probability of malignancy from the MRI alone, the slide alone and both: {words}"
