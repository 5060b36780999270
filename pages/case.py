"""Case: one patient's reading on one screen: who, how severe, both images linked, quality, areas, report."""

import streamlit as st

from dashboard import widgets
from dashboard.parts import case as parts
from dashboard.services import cohort as cohorts

left, middle, right = st.columns([2, 3, 2], vertical_alignment="center")
left.header("Case", anchor=False)
with middle, widgets.guarded("reading the cohort"):
    parts.chooser(cohorts.get_cohort())
result = parts.find_result()
if result is None:
    st.markdown("Choose a case of the open cohort above, or upload one on **Analyse**.")
    st.stop()
with right:
    parts.pin(result)
parts.head(result)
parts.figures(result)
other = parts.find_compared(result)
parts.viewers(result, beside=other)
if other is not None:
    parts.comparison(result, other)
st.subheader("Take it with you")
widgets.downloads(result)
with st.expander("What was done, and how long it took"):
    widgets.doings(result.prediction)
