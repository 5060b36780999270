"""The slide with the patches the model read: tiles coloured by attention, never a blurred heat map."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from cmssd_core.report.display import colour_values
from cmssd_core.types import FloatArray, Prediction, Uint8Array
from dashboard.views import frame

PLAIN = "#7a8594"  # edge of a patch that bears no value


def patch_grid(
    picture: Uint8Array,
    px_per_px: float,
    mpp: float | None,
    prediction: Prediction,
    *,
    opacity: float,
    tall_px: int = 500,
) -> go.Figure:
    """A slide's thumbnail under its patches. px_per_px: level-0 px per thumbnail px; mpp: um per level-0 px."""
    unit = (mpp or 1.0) * px_per_px
    height, width = picture.shape[0] * unit, picture.shape[1] * unit
    figure = frame.frame(width=width, height=height, tall_px=tall_px)
    figure.add_layout_image(
        source=_embedded(picture),
        xref="x",
        yref="y",
        x=0,
        y=0,
        sizex=width,
        sizey=height,
        sizing="stretch",
        layer="below",
    )
    if prediction.patch_xy is not None and len(prediction.patch_xy):
        _add_patches(figure, prediction, mpp or 1.0, opacity)
    if mpp is not None:
        frame.add_scale(figure, width=width, height=height, unit="µm")
    return figure


def slide_alt(prediction: Prediction) -> str:
    """What the patch grid shows, for those who cannot see it."""
    attention, count = prediction.patch_attention, 0 if prediction.patch_xy is None else len(prediction.patch_xy)
    if not count:
        return "The H&E slide; no patch was read from it"
    if attention is None:
        return f"The H&E slide with {count} patches"
    return f"The H&E slide with {count} patches; attention from {attention.min():.3g} to {attention.max():.3g}"


def _add_patches(figure: go.Figure, prediction: Prediction, mpp: float, opacity: float) -> None:
    attention, edge = prediction.patch_attention, (prediction.patch_size_px or 0.0) * mpp
    assert prediction.patch_xy is not None
    corners = prediction.patch_xy * mpp
    fills = [None] * len(corners) if attention is None else _colours(attention)
    shapes = [
        {
            "type": "rect", "x0": x, "x1": x + edge, "y0": y, "y1": y + edge, "layer": "above",
            "fillcolor": "rgba(0,0,0,0)" if rgb is None else f"rgba({rgb},{opacity})",
            "line": {"color": PLAIN if rgb is None else f"rgb({rgb})", "width": 2},
        }
        for (x, y), rgb in zip(corners, fills, strict=True)
    ]  # fmt: skip
    figure.update_layout(shapes=shapes, hovermode="closest", hoverdistance=200)
    marker: dict[str, object] = {"size": 3, "opacity": 0.01}
    words = "%{text}"
    if attention is not None:
        top = float(attention.max()) or 1.0
        figure.update_layout(coloraxis=frame.colour_axis("patch attention", "viridis", top=top))
        marker |= {"color": np.asarray(attention), "coloraxis": "coloraxis"}
        words += "<br>attention %{customdata:.4f}"
    figure.add_scatter(
        x=corners[:, 0] + edge / 2, y=corners[:, 1] + edge / 2, mode="markers", customdata=attention,
        text=[f"patch {n + 1}" for n in range(len(corners))], hovertemplate=f"{words}<extra></extra>", marker=marker,
    )  # fmt: skip


def _colours(attention: FloatArray) -> list[str]:
    top = float(attention.max()) or 1.0
    return [",".join(str(int(v)) for v in fill) for fill in colour_values(attention, "viridis", limits=(0.0, top))]


def _embedded(picture: Uint8Array) -> str:
    out = BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + b64encode(out.getvalue()).decode()
