"""The slide with the patches the model read: tiles coloured by attention, never a blurred heat map."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from cmssd_core.report.display import coloured
from cmssd_core.types import Prediction, Uint8Array
from dashboard.views import frame


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
    if prediction.patch_attention is not None and prediction.patch_xy is not None and prediction.patch_attention.size:
        _add_patches(figure, prediction, mpp or 1.0, opacity)
    if mpp is not None:
        frame.add_scale(figure, width=width, height=height, unit="µm")
    return figure


def slide_alt(prediction: Prediction) -> str:
    """What the patch grid shows, for those who cannot see it."""
    attention = prediction.patch_attention
    if attention is None or not attention.size:
        return "The H&E slide; no patch was read from it"
    return f"The H&E slide with {attention.size} patches; attention from {attention.min():.3g} to {attention.max():.3g}"


def _add_patches(figure: go.Figure, prediction: Prediction, mpp: float, opacity: float) -> None:
    attention, edge = prediction.patch_attention, (prediction.patch_size_px or 0.0) * mpp
    assert attention is not None
    assert prediction.patch_xy is not None
    corners, top = prediction.patch_xy * mpp, float(attention.max()) or 1.0
    shapes = []
    for (x, y), fill in zip(corners, coloured(attention, "viridis", limits=(0.0, top)), strict=True):
        rgb = ",".join(str(int(v)) for v in fill)
        shapes.append(
            {
                "type": "rect", "x0": x, "x1": x + edge, "y0": y, "y1": y + edge, "layer": "above",
                "fillcolor": f"rgba({rgb},{opacity})", "line": {"color": f"rgb({rgb})", "width": 2},
            }
        )  # fmt: skip
    axis = frame.colour_axis("patch attention", "viridis", top=top)
    figure.update_layout(shapes=shapes, hovermode="closest", hoverdistance=200, coloraxis=axis)
    figure.add_scatter(
        x=corners[:, 0] + edge / 2, y=corners[:, 1] + edge / 2, mode="markers", customdata=attention,
        text=[f"patch {n + 1}" for n in range(len(attention))],
        hovertemplate="%{text}<br>attention %{customdata:.4f}<extra></extra>",
        marker={
            "size": 3, "opacity": 0.01, "color": np.asarray(attention), "coloraxis": "coloraxis",
        },
    )  # fmt: skip


def _embedded(picture: Uint8Array) -> str:
    out = BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + b64encode(out.getvalue()).decode()
