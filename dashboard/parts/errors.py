"""Pieces of the Performance page: how far maps and severities are off, subgroups, and the failures themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from cmssd_core.evaluation.figure import Values
from cmssd_core.evaluation.metrics import METRICS, THRESHOLD, drawn_names
from cmssd_core.tasks.table import TASKS
from dashboard import rights, selection, widgets
from dashboard.parts import case_list
from dashboard.parts.threshold import threshold
from dashboard.services import performance as service
from dashboard.services.performance import Scope
from dashboard.views import charts, errors, forest, wording

Points = list[dict[str, Any]]
ATTRIBUTES = {"sex": "Sex", "age": "Age, years", "field_t": "Field, tesla", "scanner": "Scanner", "centre": "Centre"}
NAMED = "Named slices"


@st.fragment
@widgets.guarded("judging maps and severities")
def maps_and_severity(scope: Scope) -> None:
    """Distributions, the severity's agreement, and between them the cases that a click on either has selected."""
    _maps(scope)
    _selected_here(scope)
    _severity(scope)


def _maps(scope: Scope) -> None:
    """Distributions of the metrics of maps; a click on a bar selects its cases."""
    names = drawn_names()
    rows = service.rows(scope)
    rows = rows[rows[list(names)].notna().any(axis=1)]
    if rows.empty:
        st.info("No case here has both a map and a mask of its truth.", icon=":material/info:")
        return
    only = bool(rows["malignant"].notna().any()) and st.toggle(
        "Malignant cases only", key="malignant_only", value=True,
        help="A benign case without a tumour on its map counts 1 and lifts every mean.",
    )  # fmt: skip
    rows = rows[(rows["malignant"] == 1) | (not only)]
    if rows.empty:
        st.info("No malignant case here has both a map and a mask.", icon=":material/info:")
        return
    empty = rows["one_empty"].fillna(False).astype(bool)
    for column, name in zip(st.columns(len(names)), names, strict=True):
        metric, title = METRICS[name], METRICS[name].heading
        with column:
            kept = rows[rows[name].notna()]
            if kept.empty:
                st.info(f"No case here has {title}.", icon=":material/info:")
                continue
            values, label = (kept[c].to_numpy(dtype=np.float64) for c in (name, "malignant"))
            top: float | None = metric.bounds[1]
            if top == math.inf:
                # A map that was not found counts the image's diagonal, which would leave one bar for all others.
                found = kept.loc[~empty[kept.index], name]
                top = float(found.max()) if len(found) and found.max() > 0 else None
            mean = service.map_figure(scope, name, only)
            st.markdown(f"**{title}**: mean {wording.words(mean, metric.digits.narrow)}")
            low, middle, high = np.percentile(values, (25, 50, 75))
            st.markdown(f":small[median {middle:.3g}, quartiles {low:.3g} and {high:.3g}]")
            chart = errors.distribution(values, label, title=title, top=top)
            alt = f"Distribution of {title} over {len(values)} cases, median {middle:.3g}"
            _selecting(
                chart, f"maps_{name}", alt, partial(_bin, kept["case_id"], values, errors.edges_of(values, top=top))
            )
    st.markdown(
        f":small[{int(empty.sum()):,} of {len(rows):,} cases have a tumour on one mask and none on the other: their "
        "Dice and IoU are 0, their distance is the diagonal of the image, in the last bar.]"
    )


def _severity(scope: Scope) -> None:
    """Found against true severity, and their agreement."""
    rows = service.rows(scope)
    both = rows[rows["severity_pct"].notna() & rows["severity_true"].notna()]
    st.markdown("#### Severity")
    if both.empty:
        lacking = TASKS["severity_pct"].label in service.unanswered(scope)
        why = "These answers hold no severity." if lacking else "No case here has both a found and a known severity."
        st.info(why, icon=":material/info:")
        return
    limits, icc, off = service.severity_agreement(scope)
    lost = len(rows[rows["severity_error"].notna()]) - len(both)
    low, high = (wording.value(edge, 1, signed=True) for edge in (limits.lower, limits.upper))
    st.markdown(
        f"In points: mean error {wording.words(off, 1)} · bias {wording.words(limits.bias, 1, signed=True)} · "
        f"limits of agreement {low} to {high}. ICC(A,1) {wording.words(icc)}."
    )
    if lost > 0:
        st.markdown(
            f":small[{lost:,} case(s) with a known severity got none; in the mean error they count as the worst there "
            "could be, and they are not on the charts.]"
        )
    found, truth, label = (both[c].to_numpy(dtype=np.float64) for c in ("severity_pct", "severity_true", "malignant"))
    ids = both["case_id"].tolist() if rights.session_may("cases") else [""] * len(both)
    left, right = st.columns(2)
    with left:
        alt = f"Severity found against true, {len(both)} cases"
        _selecting(errors.severities(found, truth, label, ids), "severity_scatter", alt, _points, lasso=True)
    with right:
        chart = errors.bland_altman(found, truth, label, ids, limits)
        _selecting(chart, "bland_altman", errors.bland_altman_alt(limits), _points, lasso=True)
    if limits.slope is not None:
        st.markdown(
            f":small[The difference changes by {limits.slope:+.2f} points a point of severity; 0 is none. Limits are "
            "of single cases; grey bands are their 95 % intervals.]"
        )


def _selecting(
    figure: go.Figure, key: str, alt: str, ids_of: Callable[[Points], list[str]], *, lasso: bool = False
) -> None:
    """A chart of which a click (or a lasso) selects cases, for whoever may see cases."""
    if not rights.session_may("cases"):
        st.plotly_chart(figure, key=f"{key}_seen", alt=alt, config=charts.CONFIG)
        return
    if lasso:
        figure.update_layout(dragmode="lasso")

    def chosen() -> None:
        selection.set_selected(ids_of(st.session_state[key]["selection"]["points"]), by=selection.PLOT)

    modes = ("points", "box", "lasso") if lasso else "points"
    st.plotly_chart(figure, key=key, alt=alt, config=charts.CONFIG, on_select=chosen, selection_mode=modes)


def _points(event: Points) -> list[str]:
    return [str(np.ravel(point["customdata"])[0]) for point in event if point.get("customdata")]


def _bin(ids: pd.Series[str], values: Values, edges: Values, event: Points) -> list[str]:
    bins = {int(np.ravel(point["customdata"])[0]) for point in event if "customdata" in point}
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return ids[np.isin(place, list(bins))].tolist()


def _selected_here(scope: Scope) -> None:
    """The cases that a click selected on this page."""
    now = selection.get_selected()
    if now.by != selection.PLOT or not now or not rights.session_may("cases"):
        return
    rows = service.rows(scope)
    mine = rows[rows["case_id"].isin(now.case_ids)]
    if len(mine):
        with st.container(border=True):
            st.markdown(f"**{len(mine):,} selected**; the other pages follow this selection.")
            case_list.show(scope.cohort, mine, key="plot_cases")


@st.fragment
@widgets.guarded("judging subgroups")
def subgroups(scope: Scope) -> None:
    """One figure in every group of an attribute, or in the named slices, against all cases."""
    known = service.groups(scope)
    present = [title for name, title in ATTRIBUTES.items() if name in known]
    if selection.slices(scope.cohort):
        present.append(NAMED)
    if not present:
        st.info(
            "The cohort says no centre, scanner, field, sex or age in which its cases differ, and has no named slices.",
            icon=":material/info:",
        )
        return
    on_offer = service.answered_figures(scope)
    if not on_offer:
        st.info("No figure here is split by group.", icon=":material/info:")
        return
    left, right = st.columns(2)
    by = left.segmented_control("By", present, default=present[0], key="by", required=True, wrap=True)
    names = on_offer
    figure = right.segmented_control(
        "Figure", names, default=names[0], key="group_figure", required=True, wrap=True,
        format_func=lambda one: METRICS[one].heading,
    ) or names[0]  # fmt: skip
    metric, at = METRICS[figure], THRESHOLD
    if metric.at_threshold:
        chosen, _ = threshold(scope)
        at = THRESHOLD if chosen is None else chosen
    attribute = next((key for key, title in ATTRIBUTES.items() if title == by), None)
    groups = service.by_group(scope, attribute, figure, at)
    whole = service.whole_figure(scope, figure, at)
    st.markdown(f"**{metric.heading}** by {(by or present[0]).lower()}; all cases: {wording.words(whole)}")
    st.plotly_chart(
        forest.forest(groups, whole, title=metric.heading, unit=metric.is_share), key="forest",
        alt=forest.forest_alt(groups, title=metric.heading), config=charts.CONFIG,
    )  # fmt: skip
    st.markdown(
        ":small[Lines are 95 % intervals over patients; the dotted line and the grey band are all cases. Too few are "
        "fewer than ten cases that count for the figure (malignant ones for the sensitivity), or, for the AUC, fewer "
        f"than eight of a class. With {len(groups)} groups one may differ by chance alone.]"
    )


@st.fragment
@widgets.guarded("listing failures")
def failures(scope: Scope) -> None:
    """Calls that are wrong and sure of it, and the cases worst in map or severity; each can be opened."""
    if not rights.session_may("cases"):
        st.info("Your role sees summaries only; single cases are not shown.", icon=":material/lock:")
        return
    st.markdown("#### Wrong and sure of it")
    unlabelled = service.why_unlabelled(scope)
    if unlabelled is not None:
        st.info(unlabelled, icon=":material/info:")
    else:
        _wrong(scope)
    st.markdown("#### Worst maps and severities")
    names = service.worst_offered(scope)
    if not names:
        st.info("No case here has a map or a severity beside its truth.", icon=":material/info:")
        return
    name = st.segmented_control(
        "Worst by", names, default=names[0], key="worst_by", required=True, wrap=True,
        format_func=lambda one: f"{'Smallest' if METRICS[one].better == 'higher' else 'Largest'} {METRICS[one].short}",
    )  # fmt: skip
    worst = service.worst(scope, name or names[0])
    if worst.empty:
        st.info("No case here has both an answer and a known truth of that kind.", icon=":material/info:")
    else:
        case_list.show(scope.cohort, worst, key="worst")


def _wrong(scope: Scope) -> None:
    at, _ = threshold(scope)
    wrong = service.sure_and_wrong(scope, THRESHOLD if at is None else at)
    n = len(service.select_labelled(scope)[1])
    if wrong.empty:
        st.success(f"None of {n:,} labelled cases is called wrong at this threshold.", icon=":material/check:")
        return
    st.markdown(f"{len(wrong):,} of {n:,} are called wrong at this threshold, the surest first.")
    case_list.show(scope.cohort, wrong, key="wrong")
