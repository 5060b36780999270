"""Tumour and bone area of each slice."""

from __future__ import annotations

import plotly.graph_objects as go

from cmssd_core.types import Prediction

BONE, TUMOUR, SHOWN = "#1b86b4", "#b6377a", "#e59bc0"


def slice_areas(prediction: Prediction, *, index: int | None = None, tall_px: int = 320) -> go.Figure:
    """Bars of tumour and a line of bone, in mm2 a slice; the slice on show stands out. index from 0."""
    numbers = [a.index + 1 for a in prediction.slices]
    figure = go.Figure()
    figure.add_bar(
        x=numbers, y=[a.tumour_mm2 for a in prediction.slices], name="tumour",
        marker={"color": [TUMOUR if index is None or a.index == index else SHOWN for a in prediction.slices]},
        hovertemplate="slice %{x}<br>tumour %{y:.1f} mm²<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=numbers, y=[a.bone_mm2 for a in prediction.slices], name="bone", mode="lines+markers",
        line={"color": BONE, "width": 2}, hovertemplate="slice %{x}<br>bone %{y:.1f} mm²<extra></extra>",
    )  # fmt: skip
    if index is not None:
        figure.add_vline(x=index + 1, line={"color": "#7a8594", "width": 1, "dash": "dot"}, layer="below")
    figure.update_layout(
        height=tall_px, font={"size": 14}, margin={"l": 8, "r": 8, "t": 8, "b": 8}, bargap=0.25,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 14}},
    )  # fmt: skip
    figure.update_xaxes(title={"text": "slice", "font": {"size": 14}}, tickfont={"size": 13}, tickformat="d",
                        range=[0.5, len(numbers) + 0.5])  # fmt: skip
    figure.update_yaxes(title={"text": "area, mm²", "font": {"size": 14}}, tickfont={"size": 13}, rangemode="tozero",
                        exponentformat="none", separatethousands=True)  # fmt: skip
    return figure


def areas_alt(prediction: Prediction) -> str:
    """What the chart shows, for those who cannot see it."""
    with_tumour = [a for a in prediction.slices if a.tumour_mm2 > 0]
    if not with_tumour:
        return f"Bone area of {len(prediction.slices)} slices; none shows tumour"
    most = max(with_tumour, key=lambda a: a.tumour_mm2)
    return (
        f"Area by slice: tumour on slices {with_tumour[0].index + 1} to {with_tumour[-1].index + 1}, "
        f"most on slice {most.index + 1} with {most.tumour_mm2:.0f} mm²"
    )
