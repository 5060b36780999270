"""Pieces of the Performance page: curves, the matrix whose fields select cases, answers against each other."""

from __future__ import annotations

from functools import partial

import streamlit as st

from cmssd_core.evaluation.thresholds import Judged
from dashboard import rights, selection, widgets
from dashboard.parts import case_list
from dashboard.parts.performance import Titles
from dashboard.parts.threshold import threshold
from dashboard.services import performance as service
from dashboard.services.performance import Answers, Scope
from dashboard.views import charts, confusion, roc, wording

_CLICKS = "cmssd_matrix_clicks"
RATES = {
    "Sensitivity": "sensitivity",
    "Specificity": "specificity",
    "PPV": "ppv",
    "NPV": "npv",
    "Accuracy": "accuracy",
}


@st.fragment
@widgets.guarded("judging the answers")
def discrimination(scope: Scope, named: Titles) -> None:
    """ROC, matrix and shares at a threshold that moves, precision and recall, and the answers against each other."""
    unlabelled = service.why_unlabelled(scope)
    if unlabelled is not None:
        st.info(f"{unlabelled} There is nothing to discriminate.", icon=":material/info:")
        return
    at, _ = threshold(scope)
    judged = service.judge_threshold(scope, 0.5 if at is None else at)
    both = service.both_classes(scope)
    shown = _curves_shown(scope, named) if both else {}
    found = {named[one]: service.discrimination(scope.of(one)) for one in shown}
    left, right = st.columns(2)
    with left:
        st.markdown("#### ROC")
        if both:
            here = None
            if at is not None and judged.specificity.value is not None and judged.sensitivity.value is not None:
                here = (1 - judged.specificity.value, judged.sensitivity.value)
            first = service.discrimination(scope)
            figure = roc.roc_curves({name: f.curve for name, f in found.items()}, bounds=first.band, here=here)
            areas = {name: wording.words(f.auc) for name, f in found.items()}
            st.plotly_chart(figure, key="roc", alt=roc.roc_alt(areas), config=charts.CONFIG)
            if first.band is None:
                st.markdown(":small[No band: too few cases of a class.]")
        else:
            st.info("These cases have one label only; an ROC curve needs both.", icon=":material/info:")
    with right:
        st.markdown("#### At this threshold")
        if at is not None:
            _matrix(scope, at, judged)
    if at is None:
        return
    if st.session_state.get("cell") and rights.session_may("cases"):
        _cell_cases(scope, at)
    left, right = st.columns(2)
    with left:
        st.markdown("#### Precision and recall")
        if both:
            here = None
            if judged.sensitivity.value is not None and judged.ppv.value is not None:
                here = (judged.sensitivity.value, judged.ppv.value)
            curves = {name: f.precision for name, f in found.items()}
            prevalence = service.discrimination(scope).prevalence.value
            precisions = {name: wording.words(f.average_precision) for name, f in found.items()}
            alt = "Precision-recall curves; average precision of " + "; ".join(
                f"{k}: {v}" for k, v in precisions.items()
            )
            figure = roc.precision_recall(curves, prevalence=prevalence, here=here)
            st.plotly_chart(figure, key="precision", alt=alt, config=charts.CONFIG)
            first = service.discrimination(scope).average_precision
            st.markdown(f":small[Average precision of {named[scope.answers]}: {wording.words(first)}]")
    with right:
        st.markdown("#### Shares at this threshold")
        _rates(judged)
    if both:
        _against(scope, named, at)


def _curves_shown(scope: Scope, named: Titles) -> list[Answers]:
    """The chosen answers first, then those they are compared with; chosen among where there are many."""
    others = [one for one in named if one != scope.answers]
    if len(others) > 5:
        picked = st.multiselect(
            "Compared with", [named[one] for one in others], default=[named[one] for one in others[:2]],
            max_selections=5, key="compared",
        )  # fmt: skip
        others = [one for one in others if named[one] in picked]
    usable = [one for one in others if service.both_classes(scope.of(one))]
    return [scope.answers, *usable]


def _matrix(scope: Scope, at: float, judged: Judged) -> None:
    """The matrix; a click on a field, or the buttons below for the keyboard, selects its cases."""
    may = rights.session_may("cases")
    figure = confusion.matrix(judged, chosen=st.session_state.get("cell"))
    if not may:
        st.plotly_chart(figure, key="matrix_seen", alt=confusion.matrix_alt(judged), config=charts.CONFIG)
        return
    # A new chart after each click: one that keeps its own selection would not tell of a second click on a field.
    key = f"matrix_{st.session_state.get(_CLICKS, 0)}"
    st.plotly_chart(
        figure, key=key, alt=confusion.matrix_alt(judged), config=charts.CONFIG | {"displayModeBar": False},
        on_select=partial(_clicked, key), selection_mode="points",
    )  # fmt: skip
    st.segmented_control(
        "Select the cases of a field", list(confusion.CELLS), key="cell", on_change=_unselect, wrap=True,
        format_func=lambda name: f"{confusion.CELLS[name][2]} ({getattr(judged, name):,})",
    )  # fmt: skip


def _clicked(key: str) -> None:
    points = st.session_state[key]["selection"]["points"]
    name = points[0]["customdata"] if points else None
    name = name[0] if isinstance(name, list) else name
    st.session_state["cell"] = name if name in confusion.CELLS and name != st.session_state.get("cell") else None
    st.session_state[_CLICKS] = st.session_state.get(_CLICKS, 0) + 1
    _unselect()


def _unselect() -> None:
    if st.session_state["cell"] is None and selection.get_selected().by == selection.MATRIX:
        selection.set_selected((), by=selection.MATRIX)


def _cell_cases(scope: Scope, at: float) -> None:
    name = st.session_state["cell"]
    malignant, positive, title = confusion.CELLS[name]
    ids = service.cell(scope, at, malignant, positive)
    selection.set_selected(ids, by=selection.MATRIX)
    with st.container(border=True):
        st.markdown(f"**{len(ids):,} selected: {title}**, the surest first; the other pages follow this selection.")
        if ids:
            rows = service.rows(scope).set_index("case_id", drop=False).loc[list(ids)]
            case_list.show(scope.cohort, rows, key="cell_cases")


def _rates(judged: Judged) -> None:
    st.table(
        {
            "share": list(RATES),
            "value (95 % interval), n": [
                wording.cell(wording.words(getattr(judged, attribute), 1, percent=True)) for attribute in RATES.values()
            ],
        },
        hide_index=True,
        border="horizontal",
    )
    st.markdown(":small[PPV and NPV hold for the share of malignant cases here, not for a clinic's.]")


def _against(scope: Scope, named: Titles, at: float) -> None:
    """Every other answer beside the chosen: areas, their paired difference, and who alone is right at the threshold."""
    others = [one for one in named if one != scope.answers and service.why_unlabelled(scope.of(one)) is None]
    if not others:
        return
    st.markdown(f"#### {named[scope.answers]} against the others")
    found = [service.compare_answers(scope, one, at) for one in others]
    st.table(
        {
            "answers": [named[one.answers] for one in found],
            "their area (95 % interval), n": [wording.cell(wording.words(one.auc)) for one in found],
            "area gained by the chosen": [wording.difference(one.difference) for one in found],
            "pairs": [f"{one.difference.n:,}" for one in found],
            "alone right at the threshold: chosen, other": [wording.only_one_right(one.mcnemar) for one in found],
        },
        hide_index=True,
        border="horizontal",
    )
    st.markdown(
        ":small[Same cases on both sides. Area: DeLong's paired test. Alone right: McNemar's exact test. The more "
        "comparisons, the likelier one is small by chance; p are not corrected.]"
    )
