"""The frame: navigation, the model in use, and "research use only" on every screen."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import holdings, rights, widgets
from dashboard.config import dashboard_settings

PAGES = Path(__file__).resolve().parents[1] / "pages"

st.set_page_config(page_title="CM-SSD", page_icon=widgets.ICON, layout="wide")
holdings.mine()  # from now on the session belongs to the browser that opened it
page = rights.navigation(PAGES)
widgets.banner()
if rights.session_may("summaries"):
    with st.sidebar:
        widgets.model_in_use()
        if dashboard_settings().sign_in:
            rights.sign_out_button()
if not rights.session_may("export"):
    st.html(widgets.NO_CSV)
page.run()
