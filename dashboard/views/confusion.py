"""The confusion matrix as four fields that can be clicked: rows the truth, columns the call."""

from __future__ import annotations

import plotly.graph_objects as go

from cmssd_core.evaluation.figure import Figure
from cmssd_core.evaluation.thresholds import Judged
from dashboard.views.charts import chart
from dashboard.views.wording import number

#: Cell -> (truly malignant, called malignant, its name).
CELLS = {
    "tp": (True, True, "rightly malignant"),
    "fn": (True, False, "missed malignant"),
    "fp": (False, True, "false alarm"),
    "tn": (False, False, "rightly benign"),
}
RIGHT, WRONG, INK = "#14597e", "#9c4221", "#ffffff"


def matrix(found: Judged, *, chosen: str | None = None) -> go.Figure:
    """Counts and the share of each truth; chosen: the cell whose cases are selected. A click gives its name."""
    figure = chart(x="called", y="truth", tall_px=330, legend=False)
    for name, (malignant, positive, title) in CELLS.items():
        count = getattr(found, name)
        share = _share(found.sensitivity if malignant else found.specificity, whole=malignant == positive)
        # Bars, as a heat map's fields cannot be selected; each stands on its own base.
        figure.add_bar(
            x=[int(positive)], y=[0.96], base=[int(malignant) + 0.02], width=[0.97], customdata=[name],
            marker={"color": RIGHT if malignant == positive else WRONG,
                    "line": {"color": "#f2c14e", "width": 5 if name == chosen else 0}},
            text=[f"<b>{count:,}</b><br>{title}<br>{share}"], textposition="inside", insidetextanchor="middle",
            textangle=0, textfont={"size": 15, "color": INK}, constraintext="none", name=title,
            # The one that is not selected must not fade until its text cannot be read.
            selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
            hovertemplate=f"{title}: {count:,}; click to select these cases<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="overlay", margin={"l": 8, "r": 8, "t": 8, "b": 8})
    figure.update_xaxes(
        tickvals=[0, 1], ticktext=["benign", "malignant"], range=[-0.5, 1.5], showgrid=False, zeroline=False
    )
    figure.update_yaxes(
        tickvals=[0.5, 1.5],
        ticktext=["benign", "malignant"],
        range=[0, 2],
        showgrid=False,
        zeroline=False,
        tickangle=-90,
    )
    return figure


def matrix_alt(found: Judged) -> str:
    """The four counts in words."""
    return "Confusion matrix: " + ", ".join(
        f"{getattr(found, name)} {summary}" for name, (_, _, summary) in CELLS.items()
    )


def _share(figure: Figure, *, whole: bool) -> str:
    """The share of its row: of the cases that truly are so."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "" if figure.value is None else f"of {figure.n:,}: too few for a share"
    value, low, high = (
        (figure.value, figure.low, figure.high) if whole else (1 - figure.value, 1 - figure.high, 1 - figure.low)
    )
    digits = 1 if figure.n >= 200 else 0
    summary = [number(each, digits, percent=True) for each in (value, low, high)]
    return f"{summary[0]} % of {figure.n:,}<br>({summary[1]} to {summary[2]} %)"
