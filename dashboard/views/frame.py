"""What every picture of a patient shares: true proportions, orientation letters, a scale bar, dark ground."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from cmssd_core.report.display import Layout, lut, round_length

GROUND, INK = "#0f1115", "#eceff4"
BONE, TUMOUR = "#56ccf2", "#ffffff"
FONT = {"size": 14, "color": INK}
#: No logo, no editing; zoom and pan stay.
CONFIG = {"displaylogo": False, "scrollZoom": True, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


def frame(*, width: float, height: float, tall_px: int) -> go.Figure:
    """An empty picture of the given size in its own unit (mm, um); y runs down, one unit is one unit both ways."""
    figure = go.Figure()
    figure.update_layout(
        height=tall_px,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor=GROUND,
        plot_bgcolor=GROUND,
        font=FONT,
        showlegend=False,
        dragmode="pan",
        hoverlabel={"font": {"size": 14}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#969eaa", "activecolor": INK},
    )
    figure.update_xaxes(range=[0, width], visible=False, constrain="domain")
    figure.update_yaxes(range=[height, 0], visible=False, constrain="domain", scaleanchor="x", scaleratio=1)
    return figure


def add_letters(figure: go.Figure, layout: Layout) -> None:
    """What lies at each edge of the picture; bound to the edge, so zooming keeps them."""
    left, right, top, bottom = layout.letters
    spots: Sequence[tuple[str, float, float, str, str]] = (
        (left, 0, 0.5, "left", "middle"),
        (right, 1, 0.5, "right", "middle"),
        (top, 0.5, 1, "center", "top"),
        (bottom, 0.5, 0, "center", "bottom"),
    )
    for text, x, y, xanchor, yanchor in spots:
        figure.add_annotation(
            text=f"<b>{text}</b>",
            x=x,
            y=y,
            xref="x domain",
            yref="y domain",
            xanchor=xanchor,
            yanchor=yanchor,
            showarrow=False,
            font={"size": 18, "color": INK},
            bgcolor="rgba(0,0,0,0.45)",
        )


def add_scale(figure: go.Figure, *, width: float, height: float, unit: str = "mm") -> None:
    """A scale bar in the lower left corner, drawn in the picture's own unit: it zooms with the picture."""
    length = round_length(width * 0.25)
    x, y = width * 0.04, height * 0.955
    text = f"{length / 1000:g} mm" if unit == "µm" and length >= 1000 else f"{length:g} {unit}"
    for colour, thick in (("#000000", 7), (INK, 4)):
        figure.add_shape(
            type="line", x0=x, x1=x + length, y0=y, y1=y, layer="above", line={"color": colour, "width": thick}
        )
    figure.add_annotation(
        text=text, x=x, y=y, xanchor="left", yanchor="bottom", yshift=4, showarrow=False,
        font={"size": 14, "color": INK}, bgcolor="rgba(0,0,0,0.55)",
    )  # fmt: skip


def colour_axis(title: str, scale: str, *, top: float = 1.0) -> dict[str, object]:
    """Colours from 0 to `top` with a bar of numbers below the picture.

    An axis of the figure, not of the map: a map's own bar would fade with the map's opacity.
    """
    bar = {
        "title": {"text": title, "font": FONT, "side": "top"},
        "tickfont": FONT,
        "orientation": "h",
        "thickness": 14,
        "len": 0.8,
        "outlinewidth": 0,
        "x": 0.5,
        "y": 0,
        "yanchor": "top",
        "ypad": 12,
        "nticks": 4,
        "tickangle": 0,
    }
    # As rgb(): Streamlit takes "#000001" to "#000019" anywhere in a figure for its theme's colours, and magma starts
    # with "#000004".
    table = lut(scale)
    steps = [[n / 15, "rgb({},{},{})".format(*table[round(n * 17)])] for n in range(16)]
    return {"colorscale": steps, "cmin": 0, "cmax": top, "colorbar": bar}
