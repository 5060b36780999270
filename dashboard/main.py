"""The frame: navigation, the model in use, and "research use only" on every screen."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import rights, widgets

PAGES = Path(__file__).resolve().parents[1] / "pages"

st.set_page_config(page_title="CM-SSD", page_icon=widgets.icon(), layout="wide")
page = rights.navigation(
    [
        st.Page(PAGES / "overview.py", title="Overview", icon=":material/home:", default=True),
        st.Page(PAGES / "analyse.py", title="Analyse", icon=":material/radiology:"),
        st.Page(PAGES / "case.py", title="Case", icon=":material/clinical_notes:"),
        st.Page(PAGES / "cohort.py", title="Cohort", icon=":material/groups:"),
        st.Page(PAGES / "performance.py", title="Performance", icon=":material/insights:"),
        st.Page(PAGES / "what_if.py", title="What-if", icon=":material/experiment:"),
        st.Page(PAGES / "explain.py", title="Explain", icon=":material/center_focus_strong:"),
        st.Page(PAGES / "review.py", title="Review", icon=":material/rate_review:"),
        st.Page(PAGES / "models.py", title="Models", icon=":material/neurology:"),
    ]
)
widgets.banner()
if rights.session_may("summaries"):
    with st.sidebar:
        widgets.model_in_use()
if not rights.session_may("export"):
    st.html(widgets.NO_CSV)
page.run()
