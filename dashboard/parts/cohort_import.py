"""The Cohort page's door for new cohorts: a table is examined, each problem named, and what is sound is opened."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.tables.spreadsheet import plain_table
from dashboard import selection, widgets
from dashboard.services import cohort as cohorts
from dashboard.services import intake

_FOUND = "cohort_examined"


def show(*, unfold: bool) -> None:
    """An upload or a folder, what is wrong with it row by row, and a button to open it. unfold: it stands open."""
    door = st.expander(
        "Open another cohort", icon=":material/folder_open:", expanded=unfold, key="cohort_door", on_change="rerun"
    )
    with door:
        if not door.open:  # an uploader takes the browser a tenth of a second
            return
        columns = ", ".join(f"`{column}`" for each in MODALITIES.values() for column in each.columns)
        st.markdown(
            f"A cohort is a folder with a `cohort.csv`: one row a case, `case_id` and at least one input ({columns}), "
            "paths relative to the file, empty = missing."
        )
        left, right = st.columns(2)
        with left:
            upload = st.file_uploader("Check a cohort.csv", type=["csv"], key="cohort_upload", max_upload_size=200)
            st.markdown(
                ":small[The table alone is sent; images it names in a folder are looked for only on the right.]"
            )
        with right, st.form("cohort_folder_form", border=False):
            words = st.text_input(
                "Folder on the machine that runs CM-SSD", key="cohort_folder", placeholder="/data/study"
            )
            asked = st.form_submit_button("Check the folder", icon=":material/fact_check:")
        if asked:
            st.session_state[_FOUND] = None
            with widgets.guarded("examining the folder"):
                st.session_state[_FOUND] = intake.examine_folder(words)
        elif upload is not None and st.session_state.get("cohort_upload_seen") != upload.file_id:
            st.session_state[_FOUND] = None
            with widgets.guarded("examining the table"):
                st.session_state[_FOUND] = intake.examine_upload(upload)
            st.session_state["cohort_upload_seen"] = upload.file_id
        found: intake.Examined | None = st.session_state.get(_FOUND)
        if found is not None:
            _report(found)


def _report(found: intake.Examined) -> None:
    report = found.report
    if not report.problems:
        looked = "no file was looked for" if report.files is None else f"all {report.files:,} files are there"
        compared = "; no image stands in two splits" if report.compared else ""
        st.success(f"{report.cases:,} cases, nothing wrong: {looked}{compared}.", icon=":material/check_circle:")
    else:
        must = sum(problem.fatal for problem in report.problems)
        words = (
            f"{len(report.problems):,} problem(s) in {report.cases:,} case(s), {must:,} of which must be mended first"
        )
        (st.error if must else st.warning)(f"{words}. Row 1 is the header.", icon=":material/rule:")
        st.dataframe(
            plain_table(intake.problems(report)), hide_index=True, placeholder="whole table", height="auto",
            alt="Problems of the table with row, column and repair", key="cohort_problems",
        )  # fmt: skip
        if len(report.problems) > intake.MOST:
            st.markdown(f":small[The first {intake.MOST:,} of them.]")
    if report.findings:
        st.markdown("How the table was read:")
        widgets.findings(report.findings)
    if report.files is None and report.cases:
        st.markdown("Its images were not looked for: name their folder on the right to check and open it.")
    if found.cohort is not None:
        st.button("Open it", type="primary", key="cohort_open_new", on_click=_open, args=(found.cohort,))


def read_as(cohort: Path) -> None:
    """What the open cohort's table was understood to say, where that may be wrong."""
    present = cohorts.State.of(cohort)
    found = () if present is None else cohorts.remarks(present)
    if any(finding.level != "info" for finding in found):
        with st.expander("How the table was read", icon=":material/rule:", key="cohort_read_as"):
            widgets.findings(found)


def _open(cohort: Path) -> None:
    with widgets.guarded("opening the cohort"):
        intake.remember(cohort)
    selection.set_open_cohort(cohort)
    st.session_state.pop(_FOUND, None)
