"""Performance: how far the answers on a cohort can be trusted, with an interval on every figure."""

import streamlit as st

from dashboard import widgets
from dashboard.parts import discrimination, errors
from dashboard.parts import performance as parts

SECTIONS = ("Discrimination", "Calibration and benefit", "Maps and severity", "Subgroups", "Failures")

st.title("Performance")
with widgets.guarded("reading the results"):
    chosen = parts.choose()
    if chosen is not None:
        scope, named = chosen
        parts.headline(scope)
        tabs = dict(zip(SECTIONS, st.tabs(SECTIONS, key="section", bind="query-params"), strict=True))
        # Only the open one is computed and drawn.
        with tabs["Discrimination"]:
            if tabs["Discrimination"].open:
                discrimination.discrimination(scope, named)
        with tabs["Calibration and benefit"]:
            if tabs["Calibration and benefit"].open:
                parts.trust(scope)
        with tabs["Maps and severity"]:
            if tabs["Maps and severity"].open:
                errors.maps_and_severity(scope)
        with tabs["Subgroups"]:
            if tabs["Subgroups"].open:
                errors.subgroups(scope)
        with tabs["Failures"]:
            if tabs["Failures"].open:
                errors.failures(scope)
