"""Pieces of the Performance page: whose answers on which cases, the main figures, calibration."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from cmssd_core.evaluation.figure import Figure
from cmssd_core.evaluation.metrics import Part
from cmssd_core.tasks.table import TASKS
from cmssd_core.types import InputError
from dashboard import selection, widgets
from dashboard.inputs import describe_condition
from dashboard.services import cohort as cohorts
from dashboard.services import model as models
from dashboard.services import performance as service
from dashboard.services.performance import Answers, Scope
from dashboard.views import calibration, charts, wording

ALL, SELECTED = "All cases", "The selected cases"
Titles = Mapping[Answers, str]


def titles(cohort_answers: tuple[Answers, ...]) -> dict[Answers, str]:
    """Answers by name; the subject's own by what it was given, others with their model."""
    first = cohort_answers[0].model
    summary = {one: describe_condition(one.given) for one in cohort_answers}
    return {
        one: words[:1].upper() + words[1:] + ("" if one.model == first else f", {one.model}")
        for one, words in summary.items()
    }


def choose() -> tuple[Scope, Titles] | None:
    """The answers and cases that the page is about; None, and the reason on screen, where there is nothing to judge."""
    cohort = cohorts.get_cohort()
    if cohort is None:
        st.info("No cohort is open. Open one on the page Cohort.", icon=":material/info:")
        return None
    found = service.answers(cohort)
    if not found:
        st.info(
            "This cohort was not evaluated yet: there is no answer to judge. Evaluate it on the page **Cohort**, or "
            "with `cmssd evaluate` in a terminal.",
            icon=":material/info:",
        )
        return None
    named = titles(found)
    left, right = st.columns(2)
    title = left.selectbox("Answers of", list(named.values()), key="answers", bind="query-params")
    answers = next((one for one, name in named.items() if name == title), found[0])
    slices = {f"Slice: {one.name}": one for one in selection.slices(cohort)}
    key = f"performance_{selection.cohort_key(cohort)[:8]}_cases"
    name = right.selectbox(
        "On", [ALL, SELECTED, *slices], key=key, on_change=_remember, args=(key,), persist_state="session",
        help="Selections and named slices are made on the page Cohort, or below by a click on the matrix or a bar.",
    )  # fmt: skip
    case_ids = None
    if name == SELECTED:
        if not st.session_state.get(f"{key}_then"):
            _remember(key)
        case_ids, now = st.session_state[f"{key}_then"], selection.get_selected().case_ids
        if now and now != case_ids:
            right.button(
                f"Take the {len(now):,} selected now", key="performance_take", on_click=_remember, args=(key,),
                help=f"Judged are the {len(case_ids):,} cases that were selected when this was chosen.",
            )  # fmt: skip
    elif name in slices:
        case_ids = service.cases_of(cohort, slices[name].case_keys)
    scope = Scope(cohort, answers, case_ids)
    if service.rows(scope).empty:
        st.info(
            "No case is selected; select some on the page Cohort or choose all cases."
            if name == SELECTED and not case_ids
            else "None of these cases has such an answer; choose others.",
            icon=":material/info:",
        )
        return None
    return scope, named


def _remember(key: str) -> None:
    # As it was when it was chosen: a click on the matrix changes the selection, not what the matrix is made of.
    if st.session_state[key] == SELECTED:
        st.session_state[f"{key}_then"] = selection.get_selected().case_ids


def headline(scope: Scope) -> None:
    """What is judged, on how many, and the main figures with their doubt."""
    table = service.rows(scope)
    text = cohorts.metrics(scope.cohort) or {}
    about = text.get("models", {}).get(scope.answers.model, {})
    trained = about.get("trained", text.get("trained", "unknown data"))
    share = service.discrimination(scope).prevalence
    malignant, _, _ = service.select_labelled(scope)
    known = "no label is known"
    if share.n:
        known = f"{int(malignant.sum()):,} of {len(malignant):,} with a known label are malignant"
        known += f": {wording.words(share, 1, percent=True)}"
    patients = table["patient_id"].nunique()
    st.markdown(
        f"**{len(table):,} cases of {patients:,} patients**; {known}. "
        f"Model `{about.get('model_id', scope.answers.model)}`, trained on: {trained}."
    )
    _other_weights(str(about.get("model_id", "")))
    refused = service.list_refused(scope)
    if len(refused):
        st.warning(
            f"{len(refused):,} case(s) could not be read and count nowhere below; the page Cohort says why.",
            icon=":material/warning:",
        )
    trained_on = int((table["split"] == "train").sum()) if "split" in table else 0
    if trained_on:
        st.warning(
            f"{trained_on:,} of these cases are of the cohort's training split. If the model learned from them, every "
            "figure here flatters it.",
            icon=":material/warning:",
        )
    lacking = service.unanswered(scope)
    if lacking:
        st.info(f"These answers hold no {' and no '.join(lacking)}.", icon=":material/info:")
    made = _figures(scope)
    for column, (name, figure, digits) in zip(st.columns(max(4, len(made))), made, strict=False):
        with column:
            widgets.show_figure(name, wording.value(figure, digits), wording.doubt(figure, digits))


def _figures(scope: Scope) -> list[tuple[str, Figure, int]]:
    """The main figures of what the answers hold: heading, figure, digits."""
    lacking = service.unanswered(scope)
    parts: list[tuple[Part, Figure]] = []
    if TASKS["malignant"].label not in lacking:
        parts += [(Part("auc"), service.discrimination(scope).auc), (Part("brier"), service.trust(scope).brier)]
    if service.rows(scope)["dice"].notna().any() or not lacking:
        labelled = bool(service.rows(scope)["malignant"].notna().any())
        parts.append((Part("dice", malignant_only=labelled), service.map_figure(scope, "dice", labelled)))
    if TASKS["severity_pct"].label not in lacking:
        parts.append((Part("severity_mae"), service.severity_agreement(scope)[2]))
    made = [(_heading(part), figure, part.metric.digits.narrow) for part, figure in parts]
    c_index = service.concordance(scope)
    if c_index is not None:
        made.append(("c-index (0.5 is chance)", c_index, 3))
    return made


def _heading(part: Part) -> str:
    return part.heading + (" (0 best)" if part.metric.is_share and part.metric.better == "lower" else "")


def _other_weights(model_id: str) -> None:
    """Says so where the results are of other weights than those that answer on the other pages."""
    try:
        used = models.model().model_id
    except InputError:
        return  # the sidebar says what is wrong with them
    if model_id and model_id.rpartition("-")[0] == used.rpartition("-")[0] and model_id != used:
        st.info(
            f"These results were made with other weights (`{model_id}`) than those in use now (`{used}`). Evaluate the "
            "cohort anew to judge the latter.",
            icon=":material/info:",
        )


def trust(scope: Scope) -> None:
    """Reliability and net benefit."""
    found = service.trust(scope)
    if not found.bins or found.benefit is None:
        st.info(f"{service.why_unlabelled(scope)} There is nothing to hold p against.", icon=":material/info:")
        return
    left, right = st.columns(2)
    with left:
        st.markdown("#### Calibration")
        st.plotly_chart(
            calibration.reliability(found.bins), key="reliability", alt=calibration.reliability_alt(found.bins),
            config=charts.CONFIG,
        )  # fmt: skip
        st.markdown(
            ":small[A point a tenth of p: on the dotted line p is what it says. Hollow: too few cases for an interval. "
            "Grey: how many cases.]"
        )
        always = (
            "" if found.brier_of_prevalence is None else f" (always saying the share: {found.brier_of_prevalence:.3f})"
        )
        figures = (found.slope, found.intercept, found.ece, found.brier)
        st.table(
            {
                "figure": ["Slope (1 is right; less: too sure)", "Intercept (0 is right)", "Expected calibration error",
                           f"Brier score{always}"],
                "value (95 % interval), n": [wording.cell(wording.words(f)) for f in figures],
            },
            hide_index=True,
            border="horizontal",
        )  # fmt: skip
        st.markdown(":small[The calibration error is biased upward below some 500 cases: read the slope first.]")
    with right:
        st.markdown("#### Decision curve")
        st.plotly_chart(
            calibration.decision(found.benefit), key="decision", alt=calibration.decision_alt(found.benefit),
            config=charts.CONFIG,
        )  # fmt: skip
        st.markdown(
            ":small[Net benefit: true positives less false positives weighted by the odds of the threshold, a patient. "
            f"It holds for the share that is malignant here ({found.benefit.prevalence:.2f}), n = {found.benefit.n:,}. "
            "Where its line is not above the other two, acting on the model gains nothing.]"
        )
