"""What-if: change a case's inputs, see what the answer does, with the original pinned beside it."""

import streamlit as st

from dashboard import widgets
from dashboard.parts import case as cases
from dashboard.parts import what_if as parts
from dashboard.parts import what_if_controls as controls
from dashboard.parts import what_if_questions as questions
from dashboard.services import cohort as cohorts

left, middle = st.columns([2, 5], vertical_alignment="center")
left.header("What-if", anchor=False)
with middle, widgets.guarded("reading the cohort"):
    cases.chooser(cohorts.get_cohort())
result = cases.find_result()
if result is None:
    st.markdown("Choose a case of the open cohort above, or upload one on **Analyse**.")
    st.stop()
left, right = st.columns([2, 5], gap="large")
with left:
    parts.reset(result)
    change, other = controls.controls(result, cohorts.get_cohort())
with right:
    cases.head(result)
    answer = parts.find_answer(result, change, other)
    if answer is not None:
        parts.show_differences(result, answer)
        parts.pictures(result, answer, other)
    questions.gate(result)
    questions.shares(result, change, other)
