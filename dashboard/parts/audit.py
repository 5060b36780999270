"""The audit's pieces: the verdict in words, its gates each opened to its plot, and the cases one should look at."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import streamlit as st

from cmssd_core.tables.spreadsheet import plain_table
from dashboard import rights, selection, widgets
from dashboard.inputs import name_modality
from dashboard.parts import jobs
from dashboard.services import audit as service
from dashboard.services import model as models
from dashboard.services.audit import Gate, Report, Verdict
from dashboard.views import charts
from dashboard.views import gate as views

_VERDICTS = {
    "PASS": ":green-badge[:material/verified: PASS]",
    "NOT DEMONSTRATED": ":orange-badge[:material/help: NOT DEMONSTRATED]",
    "FAIL": ":red-badge[:material/gpp_bad: FAIL]",
    "NOT ASSESSABLE": ":gray-badge[:material/do_not_disturb_on: NOT ASSESSABLE]",
}
_LEVELS = {
    "pass": (":material/check_circle:", "passes"),
    "warn": (":material/help:", "not demonstrated"),
    "fail": (":material/cancel:", "fails"),
    "not assessable": (":material/do_not_disturb_on:", "not assessable"),
}
_MEANS = {
    "PASS": "No gate speaks against these maps. It does not prove that the model is right.",
    "NOT DEMONSTRATED": "Nothing was found that a cheat would show, but it was not shown either that the maps rest on "
    "the criterion.",
    "FAIL": "The model, or the map, rests on something that is no disease. Don't believe these maps.",
    "NOT ASSESSABLE": "Too few cases have what the audit needs, such as a drawn criterion. This says nothing for or "
    "against the model.",
}
#: Set when a case of the queue was opened: the page shows its maps at the next run.
GO = "explain_go"


def badge(verdict: str) -> str:
    """A verdict as a badge."""
    return _VERDICTS.get(verdict, f":gray-badge[{widgets.plain(verdict)}]")


def overall(summary: Report) -> None:
    """The one verdict, and each criterion's."""
    with st.container(border=True):
        st.markdown(
            f"### {badge(summary.overall)} over the criteria and methods below", help=_MEANS.get(summary.overall)
        )
        if summary.reason:
            st.markdown(widgets.plain(summary.reason))
        if summary.refused:
            st.markdown(f":orange-badge[:material/warning: {summary.refused} cases could not be read]")
        st.markdown(_MEANS.get(summary.overall, ""))
        if summary.model_id and models.model().model_id not in summary.model_id:
            st.warning("This audit is of other weights than those in use now: it says nothing of the present answers.")
        text = f"Model {widgets.plain(summary.model_id)}" if summary.model_id else "The model is not named"
        st.markdown(
            f":small[:gray[{text}{f', trained on: {widgets.plain(summary.trained)}' if summary.trained else ''}]]"
        )
    for criterion in service.criteria(summary):
        mine = [v for v in summary.verdicts if v.criterion == criterion]
        where = name_modality(mine[0].modality)
        words = widgets.plain(criterion.replace("_", " ").capitalize())
        st.markdown(f"#### {words} :gray[on the {where}]", help=summary.meanings.get(criterion))
        lines = []
        labels = service.names(mine)
        lines += [f"- {badge(v.verdict)} by {widgets.plain(name.split(' – ')[1])}: {widgets.plain(v.reason)}"
                  for v, name in zip(mine, labels, strict=True)]  # fmt: skip
        st.markdown("\n".join(lines))


def gates(summary: Report) -> Verdict | None:
    """One verdict's gates, each opened to its reason and its plot; gives the verdict that is shown."""
    if not summary.verdicts:
        st.info("This audit holds no verdict: no case had a criterion.", icon=":material/info:")
        return None
    names = service.names(summary.verdicts)
    st.subheader("The gates of one verdict")
    at = st.selectbox("Verdict", range(len(names)), format_func=lambda n: names[n].capitalize(), key="audit_verdict")
    verdict = summary.verdicts[at]
    st.markdown(f"{badge(verdict.verdict)} {widgets.plain(verdict.reason)}", help=_MEANS.get(verdict.verdict))
    for number, each in enumerate(verdict.gates):
        _gate(each, f"gate_{at}_{number}")
    return verdict


def _gate(each: Gate, key: str) -> None:
    icon, word = _LEVELS.get(each.level, (":material/help:", each.level))
    value = "" if each.value is None else f", {_number(each.value)}"
    doubt = "" if each.low is None or each.high is None else f" ({_number(each.low)} to {_number(each.high)})"
    label = f"**{each.number}** {widgets.plain(each.title)} – {word}{value}{doubt}"
    left, right = st.columns([30, 1], vertical_alignment="top")
    right.markdown("&nbsp;", help=each.meaning)
    opened = left.expander(label, icon=icon, key=key, on_change="rerun")
    if not opened.open:  # a plot is drawn when it is looked at
        return
    with opened:
        st.markdown(f"**{widgets.plain(each.meaning)}**")
        st.markdown(widgets.plain(each.reason) or "No reason is recorded.")
        if each.value is None:
            return
        below = each.number in service.BELOW
        interval = "no interval" if each.low is None or each.high is None else (
            f"95 %: {_number(each.low)} to {_number(each.high)}"
        )  # fmt: skip
        held = "" if each.threshold is None else (
            f", passes {'at or below' if below else 'above'} {_number(each.threshold)}"
        )  # fmt: skip
        n = "" if each.n is None else f", n = {each.n}"
        st.plotly_chart(
            views.against(each.value, each.low, each.high, each.threshold, below=below, title=each.measure),
            key=f"{key}_plot", config=charts.CONFIG, alt=f"{each.title}: {_number(each.value)} ({interval}{n}){held}",
        )  # fmt: skip
        st.markdown(f":small[{_number(each.value)} ({interval}{n}){held}.]")
        scores = service.controls(each)
        if scores:
            st.markdown("**Beside its controls**, which know nothing of the model:")
            st.plotly_chart(
                views.beside(scores), key=f"{key}_controls", config=charts.CONFIG, alt=views.beside_alt(scores)
            )


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def queue(summary: Report, verdict: Verdict, cohort: Path) -> None:
    """The cases in which map and criterion disagree most, to be opened one after the other."""
    st.subheader("Cases to look at")
    worst = service.disagreements(summary, verdict)
    if not worst:
        st.info("This audit keeps no case by case figures for this verdict.", icon=":material/info:")
        return
    st.markdown(
        ":small[Where the map lies least on the criterion, next to the best map that knows nothing of the model; below "
        "0 the control is better. Tick a row to open its case.]"
    )
    event = st.dataframe(
        plain_table(pd.DataFrame({
            "case": [row.case_id for row in worst],
            "excess over the best control": [row.excess for row in worst],
            "enrichment of the map": [row.enrichment for row in worst],
            "best control": [row.control for row in worst],
        })),
        key=f"audit_queue_{verdict.criterion}_{verdict.method}", hide_index=True, on_select="rerun",
        selection_mode="single-row", height=min(38 + 35 * len(worst), 320), alt="Cases by disagreement",
        column_config={name: st.column_config.NumberColumn(format="%.2f")
                       for name in ("excess over the best control", "enrichment of the map")},
    )  # fmt: skip
    chosen = event["selection"]["rows"]
    if st.button("Show its maps", icon=":material/open_in_new:", disabled=not chosen, key="audit_open"):
        selection.set_current(selection.CaseRef(cohort, worst[chosen[0]].case_id))
        st.session_state[GO] = True
        st.rerun()


def limits(summary: Report) -> None:
    """What such an audit cannot catch."""
    with st.expander("What an audit cannot catch", icon=":material/visibility_off:"):
        for each in summary.limits or service.known_limits():
            st.markdown(f"- {widgets.plain(each)}")


def downloads(summary: Report) -> None:
    """The audit as HTML and JSON."""
    if not rights.session_may("export"):
        return
    left, right, _ = st.columns([1, 1, 2])
    page = service.page(summary)
    if page is not None:
        left.download_button(
            "Audit (HTML)", page, "cmssd_audit.html", "text/html",
            key="audit_html", icon=":material/description:", on_click="ignore", width="stretch",
        )  # fmt: skip
    right.download_button(
        "Audit (JSON)", summary.path.read_bytes, "cmssd_audit.json", "application/json",
        key="audit_json", icon=":material/data_object:", on_click="ignore", width="stretch",
    )  # fmt: skip


def start(cohort: Path) -> None:
    """There is no audit of this cohort yet: a job that makes one, of a model that judges malignancy."""
    if not models.answers("malignant"):
        st.info(
            "The audit asks what an answer of malignancy rests on. The model in use does not answer malignancy, so "
            "there is nothing to audit.",
            icon=":material/info:",
        )
        return
    st.info(
        "This cohort was not audited yet. Forty cases take about 20 minutes on two cores; a stopped audit goes on "
        "where it was.", icon=":material/info:",
    )  # fmt: skip
    jobs.offer(cohort, label="Audit the model in use on this cohort", kind="audit")
    st.markdown("Or on this machine, in a terminal:")
    command = f"cmssd audit {shlex.quote(str(cohort.parent))} --out {shlex.quote(str(service.goes_to(cohort)))}"
    st.code(command, language="bash")
