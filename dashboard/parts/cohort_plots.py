"""The Cohort page's plots: cases on a plane of features, the spread of a column; what is drawn around is selected."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

from dashboard import cohort_view, selection
from dashboard.cohort_view import Choice, Numbers
from dashboard.parts.cohort import Shown
from dashboard.services import features
from dashboard.views import distribution, embedding

MOST_DRAWN = 3000  # points; more are neither seen apart nor drawn in time
BINS = 24
_TURN = "cohort_turn_"
Bools = npt.NDArray[np.bool_]


def follow(who: str) -> int:
    """The last change of the selection that was not made by `who`: a widget is made anew when it grows."""
    mine, others = st.session_state.get(_TURN + who, (-1, 0))
    turn = selection.get_selected().turn
    if turn != mine:
        others = turn
        st.session_state[_TURN + who] = (turn, others)
    return others


def note_selection(who: str) -> None:
    """Notes that `who` made the selection as it is now."""
    _, others = st.session_state.get(_TURN + who, (-1, 0))
    st.session_state[_TURN + who] = (selection.get_selected().turn, others)


def _mine(who: str) -> bool:
    return st.session_state.get(_TURN + who, (-1, 0))[0] == selection.get_selected().turn


def plane(of: Shown) -> None:
    """The cases by what the model saw in them. A box or a lasso selects, a click makes a case the current one."""
    found = features.features(of.cohort, of.model)
    if found is None:
        st.info("Without features of the cases none can be drawn by what the model saw in it.",
                icon=":material/scatter_plot:")  # fmt: skip
        return
    if len(found.rows) < features.FEWEST:
        st.info(f"{len(found.rows)} case(s) have features; a plane of them needs {features.FEWEST}.")
        return
    left, right = st.columns(2, vertical_alignment="bottom")
    colours = [name for name in of.facets if name != "answered"]
    start = next((c for c in ("malignant", "called", "inputs") if c in colours), colours[0] if colours else None)
    colour = left.selectbox(
        "Colour", colours, index=colours.index(start) if start else None, key=of.key("colour"),
        format_func=cohort_view.title, persist_state="session",
    )  # fmt: skip
    method = features.PCA
    if len(found.rows) <= features.MOST_TSNE:
        method = right.segmented_control(
            "Plane", [features.PCA, features.TSNE], default=features.PCA, required=True, key=of.key("method"),
            persist_state="session",
        ) or features.PCA  # fmt: skip
    drawn = features.plane(of.cohort, of.model, method)
    if drawn is None:
        return
    shown = np.zeros(len(of.rows), dtype=bool)
    shown[of.kept] = True
    inside = np.flatnonzero(shown[drawn.rows])
    if not len(inside):
        st.info("None of the cases shown has features.")
        return
    sample = _sample(inside, of.chosen[drawn.rows], of.current, drawn.rows)
    rows = drawn.rows[sample]
    points = embedding.Points(drawn.xy[sample], rows, _words(of, rows), of.chosen[rows])
    facet = of.facets.get(colour or "")
    if isinstance(facet, Choice):
        figure = embedding.by_label(points, facet.codes[rows], facet.labels, axes=drawn.axes)
    elif isinstance(facet, Numbers):
        figure = embedding.by_number(points, facet.values[rows], cohort_view.title(colour or ""), axes=drawn.axes)
    else:
        figure = embedding.by_number(points, np.full(len(rows), np.nan), "", axes=drawn.axes)
    if of.current is not None and (at := np.flatnonzero(drawn.rows == of.current)).size:
        embedding.add_current(figure, drawn.xy[at[0]], _words(of, drawn.rows[at])[0])
    key = of.key("plane", method, follow("plane"))
    st.plotly_chart(
        figure, key=key, on_select=partial(_on_plane, of, drawn, inside, key), config=embedding.CONFIG,
        selection_mode=("points", "box", "lasso"),
        alt=f"{len(inside):,} cases on a plane of features, coloured by {cohort_view.title(colour or '')}; "
        f"{int(of.chosen[drawn.rows[inside]].sum()):,} of them selected",
    )  # fmt: skip
    several = f" {len(sample):,} of {len(inside):,} cases are drawn, a box selects all inside." if len(
        sample) < len(inside) else ""  # fmt: skip
    without = len(of.kept) - len(inside)
    lacking = f" {without:,} of the cases shown lack features." if without else ""
    st.markdown(f":small[{drawn.said}{several}{lacking} Draw a box or lasso to select, click a case to read it.]")


def _sample(
    inside: cohort_view.Positions, chosen: Bools, current: int | None, rows: cohort_view.Positions
) -> cohort_view.Positions:
    """At most MOST_DRAWN places to draw, the same ones each time; selected ones take up to a third of them."""
    if len(inside) <= MOST_DRAWN:
        return inside
    rng = np.random.default_rng(0)
    mine = inside[chosen[inside]]
    mine = rng.permutation(mine)[: MOST_DRAWN // 3]
    others = rng.permutation(inside[~chosen[inside]])[: MOST_DRAWN - len(mine)]
    at = inside[rows[inside] == current] if current is not None else inside[:0]
    return np.unique(np.concatenate([mine, others, at]))


def _words(of: Shown, rows: cohort_view.Positions) -> list[str]:
    """What a point says on hover."""
    part = of.rows.iloc[rows]
    label = part["malignant"].map({1.0: "malignant", 0.0: "benign"}).fillna("label not known")
    lines = []
    answers = {"p_malignant": "p malignant {:.3f}", "severity_pct": "severity {:.1f} %", "risk": "log hazard {:+.2f}"}
    columns = [part[column] for column in answers]
    for name, truth, answered, *values in zip(part["case_id"], label, part["answered"], *columns, strict=True):
        words = [form.format(value) for form, value in zip(answers.values(), values, strict=True) if value == value]
        none = "map alone" if answered else "no answer"
        lines.append(f"{name}<br>{truth}<br>{', '.join(words) or none}")
    return lines


def _on_plane(of: Shown, drawn: features.Plane, inside: cohort_view.Positions, key: str) -> None:
    event = _event(key)
    xy = drawn.xy[inside]
    hit = np.zeros(len(inside), dtype=bool)
    for box in event.get("box", []):
        hit |= cohort_view.in_box(xy, tuple(box["x"][:2]), tuple(box["y"][:2]))
    for lasso in event.get("lasso", []):
        hit |= cohort_view.in_lasso(xy, np.asarray(lasso["x"], dtype=float), np.asarray(lasso["y"], dtype=float))
    clicked = [] if event.get("box") or event.get("lasso") else _rows(event.get("points", []))
    if len(clicked) == 1:
        selection.set_current(selection.CaseRef(of.cohort, of.ids(np.array(clicked))[0]))
    elif clicked or hit.any():
        _select(of, np.array(clicked) if clicked else drawn.rows[inside[hit]], "plane")
    elif _mine("plane"):
        _select(of, np.zeros(0, dtype=np.int64), "plane")


def _rows(points: list[dict[str, Any]]) -> list[int]:
    """Rows of the table that were clicked; a click may tell one twice."""
    found = [p.get("customdata") for p in points]
    rows = [value[0] if isinstance(value, list) else value for value in found if value is not None]
    return sorted({int(row) for row in rows})


def _event(key: str) -> dict[str, Any]:
    summary = st.session_state.get(key)
    return dict(summary["selection"]) if summary else {}


def _select(of: Shown, rows: cohort_view.Positions, who: str) -> None:
    selection.set_selected(of.ids(rows), by=selection.PLOT)
    note_selection(who)


def spread(of: Shown) -> None:
    """How a column is spread over the cases shown and the selected ones; a bar or a box selects its cases."""
    columns = list(of.facets)
    if not columns:
        st.info("No column of this cohort holds more than one value; there is nothing to spread.")
        return
    start = next(
        (c for c in ("severity_pct", "severity_true", "p_malignant", "risk", "dice", "age_years") if c in columns),
        columns[0],
    )
    column = st.selectbox(
        "Distribution of", columns, index=columns.index(start), key=of.key("column"),
        format_func=cohort_view.title, persist_state="session",
    )  # fmt: skip
    facet, chosen = of.facets[column], of.chosen[of.kept]
    title = cohort_view.title(column)
    if isinstance(facet, Numbers):
        values, edges = facet.values[of.kept], np.linspace(facet.low, facet.high, BINS + 1)
        present = np.isfinite(values)
        counts = [np.histogram(values[part], edges)[0] for part in (present, present & chosen)]
        figure = distribution.of_numbers(edges, *counts, title)
    else:
        codes, unknown = facet.codes[of.kept], len(facet.labels) - 1
        values, present, edges = codes.astype(float), codes != unknown, np.arange(unknown + 1) - 0.5
        counts = [np.bincount(codes[part], minlength=unknown)[:unknown] for part in (present, present & chosen)]
        figure = distribution.of_labels(facet.labels[:-1], *counts, title)
    missing = int((~present).sum())
    key = of.key("spread", column, follow("spread"))
    st.plotly_chart(
        figure, key=key, on_select=partial(_on_spread, of, np.where(present, values, np.nan), edges, key),
        config=distribution.CONFIG, selection_mode=("points", "box"),
        alt=distribution.alt(title, int(present.sum()), missing, int((present & chosen).sum())),
    )  # fmt: skip
    lack = f"{missing:,} of the {len(of.kept):,} cases shown lack it. " if missing else ""
    st.markdown(f":small[{lack}Click a bar or draw a box to select its cases.]")


def _on_spread(of: Shown, values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], key: str) -> None:
    event = _event(key)
    hit = np.zeros(len(values), dtype=bool)
    for box in event.get("box", []):
        hit |= (values >= min(box["x"])) & (values <= max(box["x"]))
    if not event.get("box"):
        for point in event.get("points", []):
            bar = int(np.clip(np.searchsorted(edges, float(point["x"])) - 1, 0, len(edges) - 2))
            last = bar == len(edges) - 2
            hit |= (values >= edges[bar]) & ((values <= edges[bar + 1]) if last else (values < edges[bar + 1]))
    if hit.any():
        _select(of, of.kept[hit], "spread")
    elif _mine("spread"):
        _select(of, np.zeros(0, dtype=np.int64), "spread")
