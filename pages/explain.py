"""Explain: where an answer comes from, on both images, and whether such maps may be believed."""

import streamlit as st

from dashboard import widgets
from dashboard.parts import case, explain, explain_shares
from dashboard.services import cohort as cohorts

st.title("Explain")
CASE, AUDIT = "This case", "Audit"
shown = st.segmented_control("Show", [CASE, AUDIT], default=CASE, key="explain_show", required=True)
if shown == CASE:
    st.markdown(
        "Where the model's answer comes from, by several methods. A map tells what moved this model, not where the "
        "disease is, and a model that cheats draws maps as fine as an honest one's: read the **Audit** before you "
        "believe one."
    )
    result = None
    with widgets.guarded("opening the case"):
        case.chooser(cohorts.opened())
        result = case.wanted()
    if result is None:
        st.info("Choose a case above, or upload one on **Analyse**.", icon=":material/info:")
    else:
        case.head(result)
        asked = []
        with widgets.guarded("reading the choices"):
            asked = explain.questions(result)
        told = [explain.answered(result, each, number) for number, each in enumerate(asked)]
        there = [each for each in told if each is not None]
        if there and len(there) == len(asked):
            explain.maps(result, there)
            for each in there:
                explain_shares.of_method(each)
            explain_shares.modalities(result, asked[0][0])
