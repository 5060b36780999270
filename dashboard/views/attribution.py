"""Explanations as figures: what parts contribute, as bars with intervals, and one patch under its map."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from cmssd_core.types import FloatArray, Share, Uint8Array
from dashboard.views import charts, frame
from dashboard.views.what_if import SIGNED

FOR, AGAINST = "#b2182b", "#2166ac"  # the ends of the maps' colours


def contributions(shares: Sequence[Share], unit: str) -> go.Figure:
    """A bar a part: right of 0 it speaks for the target, left against it; an interval where there is one."""
    figure = charts.chart(x=f"contribution, {unit}", y="", tall_px=110 + 42 * max(len(shares), 1), legend=False)
    names = [share.name for share in shares]
    up = [0.0 if s.high is None else s.high - s.value for s in shares]
    down = [0.0 if s.low is None else s.value - s.low for s in shares]
    figure.add_bar(
        x=[s.value for s in shares], y=names, orientation="h",
        marker={"color": [FOR if s.value >= 0 else AGAINST for s in shares]},
        error_x={"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 2, "width": 6,
                 "color": charts.GUIDE, "visible": any(up) or any(down)},
        customdata=[words(s, unit) for s in shares], hovertemplate="%{y}: %{customdata}<extra></extra>",
        text=[f"{s.value:+.2f}".replace("-", "−") for s in shares], textposition="outside", cliponaxis=False,
        textfont={"size": 14},
    )  # fmt: skip
    figure.add_vline(x=0, line={"color": charts.GUIDE, "width": 1})
    ends = [edge for s in shares for edge in (s.value, s.low, s.high, 0.0) if edge is not None]
    room = 0.3 * (max(ends) - min(ends) or 1.0)
    figure.update_xaxes(range=[min(ends) - room, max(ends) + room])
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], type="category")
    return figure


def words(share: Share, unit: str) -> str:
    """A share with its doubt: "+1.20 logit (0.80 to 1.60), n = 16"."""
    text = f"{share.value:+.2f} {unit}"
    if share.low is not None and share.high is not None:
        text += f" ({share.low:+.2f} to {share.high:+.2f})"
    text = text.replace("-", "−")
    return text if share.n is None else f"{text}, n = {share.n}"


def contributions_alt(shares: Sequence[Share], unit: str) -> str:
    """Every bar in words."""
    return "Contributions: " + "; ".join(f"{share.name} {words(share, unit)}" for share in shares)


def patch(picture: Uint8Array, values: FloatArray, *, signed: bool, end: float, name: str, opacity: float) -> go.Figure:
    """A patch (y, x, 3) under the pixels of its map (y, x), colours to `end`; the raw value on hover."""
    height, width = values.shape
    figure = frame.frame(width=width, height=height, tall_px=380)
    out = BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    figure.add_layout_image(
        source="data:image/png;base64," + b64encode(out.getvalue()).decode(), xref="x", yref="y", x=0, y=0,
        sizex=width, sizey=height, sizing="stretch", layer="below",
    )  # fmt: skip
    scale = [[n / (len(SIGNED) - 1), colour] for n, colour in enumerate(SIGNED)]
    axis = frame.colour_axis(name, "viridis", top=end)
    if signed:
        axis |= {"colorscale": scale, "cmin": -end, "cmax": end}
    figure.add_heatmap(
        z=np.where(np.abs(values) >= 0.05 * end, values, np.nan), x0=0.5, dx=1, y0=0.5, dy=1, coloraxis="coloraxis",
        opacity=opacity, customdata=values, hoverongaps=False,
        hovertemplate=f"{name} %{{customdata:.3g}}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(coloraxis=axis)
    return figure
