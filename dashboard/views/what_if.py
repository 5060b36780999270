"""Before and after as pictures: a signed difference over the MRI, figures by level, the modalities' shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.report.display import contrast_index, lay_out, window
from cmssd_core.types import FloatArray, Uint8Array, Volume
from dashboard.views import charts, frame

#: Blue to red through nothing, told apart by all eyes (ColorBrewer's RdBu without its white).
SIGNED = ("#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#fddbc7", "#f4a582", "#d6604d", "#b2182b")
HIDDEN_BELOW = 0.02  # a smaller difference lets the MRI show
LEAST_LIMIT = 0.1
SHOWN = 4  # patches in a montage
LABELS = {name: each.label for name, each in MODALITIES.items()}


def limit_of(delta: FloatArray) -> float:
    """The end of the colours, the same for every slice: the largest difference, at least LEAST_LIMIT."""
    return max(LEAST_LIMIT, float(np.abs(delta).max(initial=0.0)))


def difference_slice(
    volume: Volume, delta: FloatArray, *, index: int, contrast: str, opacity: float, name: str, tall_px: int = 420
) -> go.Figure:
    """A slice under the signed difference (z, y, x) of a map, colours centred on 0. index from 0."""
    layout = lay_out(volume.affine, delta.shape)
    voxels = volume.voxels[contrast_index(volume, contrast)]
    grey, plane = layout.slice_of(voxels, index), layout.slice_of(delta, index)
    width, height = grey.shape[1] * layout.col_mm, grey.shape[0] * layout.row_mm
    axes = {"x0": layout.col_mm / 2, "dx": layout.col_mm, "y0": layout.row_mm / 2, "dy": layout.row_mm}
    figure = frame.frame(width=width, height=height, tall_px=tall_px)
    low, high = window(voxels)
    figure.add_heatmap(
        z=grey, customdata=np.ascontiguousarray(plane), **axes, colorscale="Gray", zmin=low, zmax=high, zsmooth="best",
        showscale=False, hovertemplate=f"{name} %{{customdata:+.3f}}<extra></extra>",
    )  # fmt: skip
    figure.add_heatmap(
        z=np.where(np.abs(plane) >= HIDDEN_BELOW, plane, np.nan), **axes, coloraxis="coloraxis",
        opacity=max(opacity, 0.3), hoverinfo="skip",
    )  # fmt: skip
    axis = frame.colour_axis(f"{name}, after minus before", "magma")
    limit = limit_of(delta)
    steps = [[n / (len(SIGNED) - 1), colour] for n, colour in enumerate(SIGNED)]
    bar = {**axis["colorbar"], "tickformat": "+.2f", "tickvals": [-limit, 0, limit]}  # type: ignore[dict-item]
    figure.update_layout(coloraxis={**axis, "colorscale": steps, "cmin": -limit, "cmax": limit, "colorbar": bar})
    frame.add_letters(figure, layout)
    frame.add_scale(figure, width=width, height=height)
    return figure


def difference_alt(delta: FloatArray, volume: Volume, *, index: int, name: str) -> str:
    """What the difference shows, for those who cannot see it."""
    plane = lay_out(volume.affine, delta.shape).slice_of(delta, index)
    return f"Slice {index + 1}: {name} after minus before, from {plane.min():+.2f} to {plane.max():+.2f}"


def drawable(figure: go.Figure, corners_mm: Sequence[tuple[float, float]] = ()) -> go.Figure:
    """The picture of a slice, ready to have a box or a closed line drawn on it; what was drawn before as an outline."""
    x0, x1 = figure.layout.xaxis.range
    y1, y0 = figure.layout.yaxis.range
    x, y = np.meshgrid(np.linspace(x0, x1, 24), np.linspace(y0, y1, 24))
    # Plotly draws selections only where some trace has points; these cannot be seen.
    figure.add_scatter(x=x.ravel(), y=y.ravel(), mode="markers", marker={"size": 2, "opacity": 0}, hoverinfo="skip")
    figure.data[-1].update(selected={"marker": {"opacity": 0}}, unselected={"marker": {"opacity": 0}})
    if corners_mm:
        path = "M" + " L".join(f"{px},{py}" for px, py in corners_mm) + " Z"
        figure.add_shape(type="path", path=path, line={"color": "#f2c14e", "width": 2, "dash": "dash"})
    figure.update_layout(dragmode="select")
    return figure


def levels(steps: Sequence[tuple[float, float | None]], name: str, more: Sequence[tuple[float, float | None]] = (),
           more_name: str = "", *, y: str, tall_px: int = 300) -> go.Figure:  # fmt: skip
    """One or two figures by level of an artefact, from 0 to 5."""
    figure = charts.chart(x="level of the artefact", y=y, tall_px=tall_px, legend=bool(more))
    for index, (rows, label) in enumerate(((steps, name), (more, more_name))):
        if not rows:
            continue
        figure.add_scatter(
            x=[level for level, _ in rows], y=[value for _, value in rows], name=label, mode="lines+markers",
            line={"color": charts.COLOURS[index], "dash": charts.DASHES[index], "width": 2.5},
            marker={"size": 8, "symbol": ("circle", "diamond")[index]},
            hovertemplate=f"level %{{x:g}}<br>{label} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    known = [value for rows in (steps, more) for _, value in rows if value is not None]
    if known:
        middle, half = (max(known) + min(known)) / 2, max((max(known) - min(known)) / 2 * 1.2, 0.05)
        figure.update_yaxes(range=[middle - half, middle + half])
    figure.update_xaxes(tickvals=[level for level, _ in steps])
    figure.update_layout(legend={"y": 1.02, "yanchor": "bottom"})
    return figure


def levels_alt(steps: Sequence[tuple[float, float | None]], name: str) -> str:
    """The figures by level in words."""
    words = ", ".join(f"{'none' if value is None else f'{value:.3f}'} at {level:g}" for level, value in steps)
    return f"{name} by level: {words}"


def share_bars(before: Mapping[str, float], after: Mapping[str, float] | None, *, tall_px: int = 260) -> go.Figure:
    """Each modality's Shapley value in logits, towards malignant to the right, for the original and the change."""
    figure = charts.chart(x="logits: left towards benign, right towards malignant", y="", tall_px=tall_px)
    figure.update_layout(barmode="group", bargap=0.35, legend={"traceorder": "normal", "y": -0.4})
    for index, (label, values) in enumerate((("original", before), ("changed", after))):
        if values is None:
            continue
        names = [LABELS[name] for name in values]
        figure.add_bar(
            x=list(values.values()), y=names, orientation="h", name=label,
            marker={"color": charts.COLOURS[index], "pattern": {"shape": ("", "/")[index]}},
            text=[f"{value:+.2f}" for value in values.values()], textposition="outside", cliponaxis=False,
            textfont={"size": 14},
            hovertemplate="%{y}: %{x:+.3f} logits<extra></extra>",
        )  # fmt: skip
    most = max((abs(v) for values in (before, after or {}) for v in values.values()), default=1.0) * 1.2
    low = min((v for values in (before, after or {}) for v in values.values()), default=0.0)
    figure.update_xaxes(range=[-most if low < 0 else 0, most])
    figure.add_vline(x=0, line={"color": charts.GUIDE, "width": 1})
    figure.update_yaxes(autorange="reversed")
    return figure


def shares_alt(before: Mapping[str, float], after: Mapping[str, float] | None) -> str:
    """The shares in words."""
    summary = ", ".join(f"{LABELS[name]} {value:+.2f}" for name, value in before.items())
    now = "" if after is None else "; changed: " + ", ".join(f"{LABELS[n]} {v:+.2f}" for n, v in after.items())
    return f"Shapley values in logits, original: {summary}{now}"


def montage(patches: Uint8Array, *, most: int = SHOWN, edge_px: int = 128) -> Image.Image:
    """The first few patches in one row, as the model reads them."""
    row = [Image.fromarray(patch).resize((edge_px, edge_px)) for patch in patches[:most]]
    out = Image.new("RGB", (len(row) * (edge_px + 4) - 4, edge_px), "#7a8594")
    for index, picture in enumerate(row):
        out.paste(picture, (index * (edge_px + 4), 0))
    return out
