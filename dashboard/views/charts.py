"""What every chart of figures shares: size, type, colours that all eyes tell apart on light and dark ground."""

from __future__ import annotations

import plotly.graph_objects as go

#: Apart for the colour-blind and at 3 to 1 against both grounds; lines also differ by their dash.
COLOURS = ("#1b86b4", "#d9822b", "#2f9e79", "#b6377a", "#8a6fd1", "#7a8594")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MALIGNANT, BENIGN, GUIDE = "#b6377a", "#1b86b4", "#7a8594"
#: For charts of figures: no zoom by the wheel, which would catch the reader who scrolls the page.
CONFIG = {"displaylogo": False, "scrollZoom": False, "modeBarButtonsToRemove": ["autoScale2d", "zoomIn2d", "zoomOut2d"]}


def chart(*, x: str, y: str, tall_px: int = 400, legend: bool = True) -> go.Figure:
    """An empty chart with named axes and the legend below, where it covers nothing."""
    # In one piece: plotly takes ten times as long to update a layout bit by bit.
    axes = {
        name: {"title": {"text": title, "font": {"size": 14}}, "tickfont": {"size": 13}, "exponentformat": "none"}
        for name, title in (("xaxis", x), ("yaxis", y))
    }
    return go.Figure(
        layout={
            "height": tall_px,
            "font": {"size": 14},
            "margin": {"l": 8, "r": 16, "t": 28, "b": 8},
            "showlegend": legend,
            "legend": {
                "orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 14}, "traceorder": "normal",
            },
            "hoverlabel": {"font": {"size": 14}},
            "dragmode": False,
            "clickmode": "event+select",
            **axes,
        }
    )  # fmt: skip


def unit(figure: go.Figure) -> None:
    """Both axes from 0 to 1, with room for what lies on the edge."""
    figure.update_xaxes(range=[-0.02, 1.02], tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1])
    figure.update_yaxes(range=[-0.02, 1.04], tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1])


def guide(figure: go.Figure, x: tuple[float, ...], y: tuple[float, ...], name: str | None = None) -> None:
    """A thin grey line that says what chance, truth or nothing would be."""
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": GUIDE, "width": 1.5, "dash": "dot"}, hoverinfo="skip",
        name=name, showlegend=name is not None,
    )  # fmt: skip


def faint(colour: str, share: float = 0.2) -> str:
    """A colour "#rrggbb" let through, for bands."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"


def band(
    figure: go.Figure, x: tuple[float, ...], low: tuple[float, ...], high: tuple[float, ...], colour: str, name: str
) -> None:
    """The space between two lines."""
    figure.add_scatter(x=x, y=low, mode="lines", line={"width": 0}, hoverinfo="skip", showlegend=False)
    figure.add_scatter(
        x=x, y=high, mode="lines", line={"width": 0}, fill="tonexty", fillcolor=faint(colour), hoverinfo="skip",
        name=name,
    )  # fmt: skip
