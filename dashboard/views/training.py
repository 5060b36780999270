"""What training did, step by step: the loss and its terms, looks at the validation split, and where stages begin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.views.charts import COLOURS, DASHES, GUIDE, chart, faint

SPANS = 60  # of steps; a line is their means
MOST = 3000  # steps that are drawn one by one behind it


def curves(history: pd.DataFrame, columns: Sequence[str], *, logarithmic: bool) -> go.Figure:
    """Means over equal spans of steps of the given columns, every step faint behind; validation as single points."""
    figure = chart(x="step", y="loss", tall_px=440)
    step = history["step"].to_numpy(dtype=np.float64)
    styles = list(zip(COLOURS, DASHES, strict=True))
    for number, name in enumerate(columns):
        colour, dash = styles[number % len(styles)]
        values = history[name].to_numpy(dtype=np.float64)
        known = np.isfinite(values) & ((values > 0) | (not logarithmic))
        x, y = step[known], values[known]
        if name == "validation":
            figure.add_scatter(
                x=x, y=y, mode="lines+markers", name="validation (of the cases kept apart)",
                marker={"size": 9, "symbol": "diamond", "color": colour}, line={"color": colour, "width": 1},
                hovertemplate="validation<br>step %{x:,}<br>%{y:.4g}<extra></extra>",
            )  # fmt: skip
            continue
        span = max(1, -(-len(x) // SPANS))
        if span > 1 and len(x) <= MOST:
            figure.add_scatter(
                x=x, y=y, mode="lines", line={"color": faint(colour, 0.3), "width": 1}, hoverinfo="skip",
                showlegend=False,
            )  # fmt: skip
        starts = [start for start, _ in stages(history)][1:]
        pieces = np.split(np.arange(len(x)), np.searchsorted(x, starts))  # no mean over two stages
        figure.add_scatter(
            x=_joined([_spans(x[piece], span) for piece in pieces]),
            y=_joined([_spans(y[piece], span) for piece in pieces]),
            mode="lines", name=name, line={"color": colour, "dash": dash, "width": 2},
            hovertemplate=f"{name}<br>step %{{x:,.0f}}<br>%{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    for number, (start, stage) in enumerate(stages(history), 1):
        if start > step[0]:
            figure.add_vline(x=start, line={"color": GUIDE, "width": 1, "dash": "dot"}, layer="below")
        figure.add_annotation(
            x=start, y=1, yref="y domain", text=str(number), hovertext=stage, showarrow=False, yanchor="bottom",
            xanchor="left", font={"size": 13, "color": GUIDE},
        )  # fmt: skip
    if logarithmic:
        # Plotly's own labels between powers of ten are too small to read.
        ticks = [digit * 10.0**power for power in range(-8, 9) for digit in (1, 2, 5)]
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    figure.update_xaxes(tickformat=",d", range=[step[0], max(step[-1], step[0] + 1)])
    return figure


def stages(history: pd.DataFrame) -> list[tuple[float, str]]:
    """First step and name of each stage; [] where the run has none."""
    if "stage" not in history:
        return []
    new = history["stage"] != history["stage"].shift()
    return [(float(s), str(n)) for s, n in zip(history.loc[new, "step"], history.loc[new, "stage"], strict=True)]


def curves_alt(history: pd.DataFrame) -> str:
    """First and last loss in words."""
    first, last = history.iloc[0], history.iloc[-1]
    return (
        f"Training curves over {len(history)} steps: total loss {first['total']:.3g} at step {first['step']:.0f}, "
        f"{last['total']:.3g} at step {last['step']:.0f}"
    )


def _spans(values: np.ndarray, span: int) -> np.ndarray:
    whole = len(values) // span * span
    means = values[:whole].reshape(-1, span).mean(axis=1)
    return np.append(means, values[whole:].mean()) if whole < len(values) else means


def _joined(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """One line with a gap between its pieces."""
    with_gaps = [part for piece in pieces if len(piece) for part in (piece, [np.nan])]
    return np.concatenate(with_gaps[:-1]) if with_gaps else np.empty(0)
