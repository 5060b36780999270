"""One MRI slice under a map: the tumour's probability, or where the gate weighted the MRI."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from cmssd_core.report.display import MASK, SHOWN_FROM, Layout, contrast_index, lay_out, window
from cmssd_core.types import FloatArray, Prediction, Volume
from dashboard.views import frame


def tumour_slice(
    volume: Volume, prediction: Prediction, *, index: int, contrast: str, opacity: float, tall_px: int = 500
) -> go.Figure:
    """A slice with the tumour probability over it, both masks as outlines, raw values on hover. index from 0."""
    tumour = prediction.maps["tumour"]
    layout = lay_out(volume.affine, tumour.shape)
    plane = layout.slice_of(tumour, index)
    figure = _slice(volume, layout, plane, index=index, contrast=contrast, name="tumour", tall_px=tall_px)
    axes = _axes(plane, layout)
    if opacity > 0:
        figure.add_heatmap(
            z=np.where(plane >= SHOWN_FROM, plane, np.nan), **axes, coloraxis="coloraxis", opacity=opacity,
            hoverinfo="skip",
        )  # fmt: skip
        figure.update_layout(coloraxis=frame.colour_axis("tumour probability", "magma"))
    masks = [(tumour, frame.TUMOUR)]
    if "bone" in prediction.maps:
        masks.insert(0, (prediction.maps["bone"], frame.BONE))
    for grid, colour in masks:
        figure.add_contour(
            z=layout.slice_of(grid, index), **axes, showscale=False, hoverinfo="skip",
            line={"color": colour, "width": 2},
            contours={"coloring": "none", "start": MASK, "end": MASK, "size": 1}, autocontour=False,
        )  # fmt: skip
    return figure


def gate_slice(
    volume: Volume, prediction: Prediction, *, index: int, contrast: str, opacity: float, tall_px: int = 500
) -> go.Figure:
    """A slice with equation 2's gate over it (1 = all MRI, 0 = all slide); not evidence. index from 0."""
    gate = prediction.maps["attention"]
    layout = lay_out(volume.affine, gate.shape)
    plane = layout.slice_of(gate, index)
    figure = _slice(volume, layout, plane, index=index, contrast=contrast, name="gate", tall_px=tall_px)
    axes = _axes(plane, layout)
    figure.add_heatmap(z=plane, **axes, coloraxis="coloraxis", opacity=opacity, hoverinfo="skip")
    figure.update_layout(coloraxis=frame.colour_axis("gate: 1 = MRI, 0 = slide", "viridis"))
    return figure


def tumour_alt(prediction: Prediction, *, index: int, contrast: str) -> str:
    """What the tumour slice shows, for those who cannot see it."""
    area = next((a for a in prediction.slices if a.index == index), None)
    said = "" if area is None else f": {area.tumour_mm2:.0f} mm² tumour, {area.bone_mm2:.0f} mm² bone"
    return f"{contrast.upper()} slice {index + 1} of {len(prediction.slices)} with tumour probability{said}"


def gate_alt(volume: Volume, prediction: Prediction, *, index: int) -> str:
    """What the gate slice shows, for those who cannot see it."""
    gate = prediction.maps["attention"]
    plane = lay_out(volume.affine, gate.shape).slice_of(gate, index)
    return (
        f"Slice {index + 1}: where the gate weighted the MRI, not evidence; "
        f"values from {plane.min():.2f} to {plane.max():.2f}, mean {plane.mean():.2f}"
    )


def _axes(plane: FloatArray, layout: Layout) -> dict[str, float]:
    return {"x0": layout.col_mm / 2, "dx": layout.col_mm, "y0": layout.row_mm / 2, "dy": layout.row_mm}


def _slice(
    volume: Volume, layout: Layout, over: FloatArray, *, index: int, contrast: str, name: str, tall_px: int
) -> go.Figure:
    voxels = volume.voxels[contrast_index(volume, contrast)]
    grey = layout.slice_of(voxels, index)
    width, height = grey.shape[1] * layout.col_mm, grey.shape[0] * layout.row_mm
    figure = frame.frame(width=width, height=height, tall_px=tall_px)
    low, high = window(voxels)
    figure.add_heatmap(
        z=grey, customdata=np.ascontiguousarray(over), **_axes(grey, layout), colorscale="Gray", zmin=low, zmax=high,
        zsmooth="best", showscale=False,
        hovertemplate=f"{contrast.upper()} %{{z:.4g}}<br>{name} %{{customdata:.3f}}<extra></extra>",
    )  # fmt: skip
    frame.add_letters(figure, layout)
    frame.add_scale(figure, width=width, height=height)
    return figure
