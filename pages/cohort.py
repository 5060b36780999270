"""Cohort: a table of cases with filters, a plane of what the model saw, and one selection that all pages share."""

import streamlit as st

from dashboard import widgets
from dashboard.parts import cohort as parts
from dashboard.parts import cohort_import, cohort_plots, cohort_table, jobs

st.title("Cohort")
with widgets.guarded("following the link"):
    parts.restore()
parts.remarks()
opened = None
with widgets.guarded("looking for cohorts"):
    opened = parts.picker()
if opened is None:
    st.info("No cohort is open. Name the folder of one below.", icon=":material/folder_open:")
else:
    with widgets.guarded("reading the cohort"):
        shown = parts.read_shown(opened)
        cohort_import.read_as(opened)
        if shown.lacking:
            with st.container(border=True):
                left, right = st.columns([3, 2])
                left.markdown(f":material/info: {shown.lacking}")
                with right:
                    jobs.offer(opened)
        cohort_table.bar(shown)
        left, right = st.columns([3, 2], gap="medium")
        with left:
            cohort_table.table(shown)
        with right, widgets.guarded("drawing the cases"):
            cohort_plots.plane(shown)
        left, right = st.columns([3, 2], gap="medium")
        with left, widgets.guarded("finding like cases"):
            cohort_table.current(shown)
        with right, widgets.guarded("drawing the distribution"):
            cohort_plots.spread(shown)
        parts.link(shown)
with widgets.guarded("opening a cohort"):
    cohort_import.show(unfold=opened is None)
