"""Analyse: choose a case, run the model, see what it says and how far to trust it."""

import streamlit as st

from dashboard import selection, state, widgets
from dashboard.services import case as cases
from dashboard.services import reading

st.title("Analyse a case")
demo = cases.demo()
source = st.segmented_control("Case", ["Demo case", "Your files"], default="Demo case" if demo else "Your files",
                              key="source", required=True, persist_state="session")  # fmt: skip
request = demo
if source == "Your files":
    left, right = st.columns(2)
    with left:
        volume = widgets.uploader("mri")
        contrasts = widgets.contrast_choice(volume)
    with right:
        slide = widgets.uploader("he")
        mpp = widgets.mpp_choice(slide)
        site = widgets.site_choice(volume, slide)
    with widgets.guarded("reading what the model wants"):
        for said in cases.describe_fields():
            st.markdown(f":small[{said}]")
    request = cases.build_request(volume, contrasts, slide, mpp, site)
elif demo is None:
    st.info("There is no demo case in this installation; choose “Your files”.", icon=":material/info:")

if st.button("Run", type="primary", key="run", icon=":material/play_arrow:", disabled=request is None) and request:
    state.set_result(None)
    with st.status("Running", expanded=True) as status:
        bar = st.progress(0.0, "starting")
        with widgets.guarded("analysing the case"):
            made = cases.analyse(request, lambda share, what: bar.progress(min(max(share, 0.0), 1.0), what))
            state.set_result(made)
            selection.set_current(reading.ref(made))
            bar.progress(1.0, "done")
        done = state.result() is not None
        status.update(label="Done" if done else "Stopped", state="complete" if done else "error", expanded=not done)

result = state.result()
if result is not None:
    st.header("Result")
    if result.request != request:
        st.warning("The choices above have changed since this result was made; press **Run** for a new one.")
    st.markdown(f"Case `{result.case.id[:12]}`, model `{result.prediction.model_id}`")
    widgets.figures(result.prediction)
    st.subheader("Quality of the inputs")
    widgets.findings(result.prediction.quality)
    widgets.viewer(result)
    st.subheader("Take it with you")
    widgets.downloads(result)
    with st.expander("What was done, and how long it took"):
        widgets.doings(result.prediction)
