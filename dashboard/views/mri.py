"""One MRI slice under a map: the tumour's probability, or where the gate weighted the MRI."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from cmssd_core.report.display import MASK, SHOWN_FROM, Layout, contrast_index, lay_out, most_tumour, window
from cmssd_core.types import FloatArray, Prediction, Volume
from cmssd_core.volume.contrasts import contrast_label
from dashboard.views import frame


def tumour_slice(
    volume: Volume, prediction: Prediction, *, index: int, contrast: str, opacity: float, tall_px: int = 500
) -> go.Figure:
    """A slice with the tumour probability over it, masks as outlines, raw values on hover. index from 0.

    A map that the model does not draw is left out.
    """
    layout = lay_out(volume.affine, volume.voxels.shape[1:])
    tumour = prediction.maps.get("tumour")
    plane = None if tumour is None else layout.slice_of(tumour, index)
    figure = _slice(volume, layout, plane, index=index, contrast=contrast, name="tumour", tall_px=tall_px)
    axes = _axes(layout)
    if plane is not None and opacity > 0:
        figure.add_heatmap(
            z=np.where(plane >= SHOWN_FROM, plane, np.nan), **axes, coloraxis="coloraxis", opacity=opacity,
            hoverinfo="skip",
        )  # fmt: skip
        figure.update_layout(coloraxis=frame.colour_axis("tumour probability", "magma"))
    for name, colour in (("bone", frame.BONE), ("tumour", frame.TUMOUR)):
        grid = prediction.maps.get(name)
        if grid is None:
            continue
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
    axes = _axes(layout)
    figure.add_heatmap(z=plane, **axes, coloraxis="coloraxis", opacity=opacity, hoverinfo="skip")
    figure.update_layout(coloraxis=frame.colour_axis("gate: 1 = MRI, 0 = slide", "viridis"))
    return figure


def count_slices(volume: Volume) -> int:
    """How many slices a volume has, as it is shown."""
    return lay_out(volume.affine, volume.voxels.shape[1:]).count


def first_slice(volume: Volume, prediction: Prediction) -> int:
    """The slice to show first, from 0: with most tumour, else with most bone, else the middle one."""
    if prediction.slices:
        return most_tumour(prediction)
    layout = lay_out(volume.affine, volume.voxels.shape[1:])
    axis = layout.orientation.axes[0]
    for name in ("tumour", "bone"):
        grid = prediction.maps.get(name)
        if grid is not None and (grid >= MASK).any():
            return int((grid >= MASK).sum(axis=tuple(a for a in range(3) if a != axis)).argmax())
    return layout.count // 2


def describe_lines(prediction: Prediction) -> str:
    """What the outlines of a slice are; that there is no map where the model draws none."""
    lines = (("tumour", "White: tumour at 0.5 and above."), ("bone", "Blue: bone at 0.5 and above."))
    drawn = [words for name, words in lines if name in prediction.maps]
    return " ".join([*drawn, "Hover for raw values."]) if drawn else "This model draws no map here."


def tumour_alt(volume: Volume, prediction: Prediction, *, index: int, contrast: str) -> str:
    """What the tumour slice shows, for those who cannot see it."""
    area = next((a for a in prediction.slices if a.index == index), None)
    words = "" if area is None else f": {area.tumour_mm2:.0f} mm² tumour, {area.bone_mm2:.0f} mm² bone"
    drawn = " with tumour probability" if "tumour" in prediction.maps else ""
    return f"{contrast_label(contrast)} slice {index + 1} of {count_slices(volume)}{drawn}{words}"


def gate_alt(volume: Volume, prediction: Prediction, *, index: int) -> str:
    """What the gate slice shows, for those who cannot see it."""
    gate = prediction.maps["attention"]
    plane = lay_out(volume.affine, gate.shape).slice_of(gate, index)
    return (
        f"Slice {index + 1}: where the gate weighted the MRI, not evidence; "
        f"values from {plane.min():.2f} to {plane.max():.2f}, mean {plane.mean():.2f}"
    )


def _axes(layout: Layout) -> dict[str, float]:
    return {"x0": layout.col_mm / 2, "dx": layout.col_mm, "y0": layout.row_mm / 2, "dy": layout.row_mm}


def _slice(
    volume: Volume, layout: Layout, over: FloatArray | None, *, index: int, contrast: str, name: str, tall_px: int
) -> go.Figure:
    voxels = volume.voxels[contrast_index(volume, contrast)]
    grey = layout.slice_of(voxels, index)
    width, height = grey.shape[1] * layout.col_mm, grey.shape[0] * layout.row_mm
    figure = frame.frame(width=width, height=height, tall_px=tall_px)
    low, high = window(voxels)
    beside = "" if over is None else f"<br>{name} %{{customdata:.3f}}"
    figure.add_heatmap(
        z=grey, customdata=None if over is None else np.ascontiguousarray(over), **_axes(layout), colorscale="Gray",
        zmin=low, zmax=high, zsmooth="best", showscale=False,
        hovertemplate=f"{contrast_label(contrast)} %{{z:.4g}}{beside}<extra></extra>",
    )  # fmt: skip
    frame.add_letters(figure, layout)
    frame.add_scale(figure, width=width, height=height)
    return figure
