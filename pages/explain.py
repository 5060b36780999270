"""Explain: where an answer comes from, on both images, and whether such maps may be believed."""

import streamlit as st

from dashboard import widgets
from dashboard.parts import audit, case, explain, explain_shares
from dashboard.services import audit as audits
from dashboard.services import cohort as cohorts

st.title("Explain")
CASE, AUDIT = "This case", "Audit"
if st.session_state.pop(audit.GO, False):
    st.session_state["explain_show"] = CASE
shown = st.segmented_control("Show", [CASE, AUDIT], default=CASE, key="explain_show", required=True)
if shown == CASE:
    st.markdown(
        "Where the model's answer comes from, by several methods. A map tells what moved this model, not where the "
        "disease is, and a model that cheats draws maps as fine as an honest one's: read the **Audit** before you "
        "believe one."
    )
    result = None
    with widgets.guarded("opening the case"):
        case.chooser(cohorts.get_cohort())
        result = case.find_result()
    if result is None:
        st.info("Choose a case above, or upload one on **Analyse**.", icon=":material/info:")
    else:
        case.head(result)
        unmapped = explain.describe_unmapped(result)
        if unmapped is not None:
            st.info(unmapped, icon=":material/info:")
            with widgets.guarded("sharing out the answer"):
                explain_shares.modalities(result, explain.show_whole(result))
            st.stop()
        asked = []
        with widgets.guarded("reading the choices"):
            asked = explain.questions(result)
        answers = [explain.find_answer(result, each, number) for number, each in enumerate(asked)]
        known = [each for each in answers if each is not None]
        if known and len(known) == len(asked):
            explain.maps(result, known)
            left, right = st.columns(2)
            with left, widgets.guarded("sharing out the answer"):
                explain_shares.modalities(result, asked[0][0])
            with right:
                explain_shares.criteria(result, asked[0][0])
            explain_shares.downloads(result, known)
else:
    cohort = cohorts.get_cohort()
    stored = None if cohort is None else audits.find_audit(cohort)
    st.markdown(
        "Whether such maps may be believed, over a cohort: do they rest on the pathological criteria, or on something "
        "else? Each verdict stands on gates; open one to see what it asks and what was found."
    )
    if cohort is None:
        st.info("No cohort is open. Open one on the **Cohort** page.", icon=":material/info:")
    elif stored is None:
        with widgets.guarded("offering an audit"):
            audit.start(cohort)
    else:
        with widgets.guarded("reading the audit"):
            record = audits.report(stored)
            audit.overall(record)
            verdict = audit.gates(record)
            if verdict is not None:
                audit.queue(record, verdict, cohort)
            audit.limits(record)
            audit.downloads(record)
