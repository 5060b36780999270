"""Review: read a case blind, then see the model's answer and agree or override; and how far readers agree."""

import streamlit as st

from dashboard import state, widgets
from dashboard.parts import review
from dashboard.services import cohort as cohorts
from dashboard.services import model as models
from dashboard.services import reviews as service

st.title("Review")
st.markdown(
    "Read a case before the model is asked, then see its answer and say whether you agree. What is saved is kept with "
    "your pseudonym, the time and the model, and is never changed."
)
READ, AGREE = "Read cases", "Agreement"
shown = st.segmented_control("Show", [READ, AGREE], default=READ, key="review_show", required=True)
if shown == AGREE:
    with widgets.guarded("reading the reviews"):
        review.agreement_panel()
else:
    name = ref = case = reading = None
    cohort = cohorts.get_cohort()
    if cohort is None:
        st.info("There is no cohort in this installation; open one on the Cohort page.", icon=":material/info:")
    else:
        with widgets.guarded("making the reading list"):
            name = review.reader()
            ref = review.choose(cohort, name) if name is not None else None
    if ref is not None and name is not None:
        with widgets.guarded("opening the case"):
            case = service.case_of(ref)
            reading = service.reviews().reading_of(name, case.id)
    if case is not None and name is not None and reading is None:
        with widgets.guarded("drawing the case"):
            review.images(case, None)
            criteria = service.criteria(cohort)
            review.blind_form(case, name, criteria)
    elif case is not None and reading is not None:
        review.told_reading(reading)
        with widgets.guarded("asking the model"):
            with st.status("Asking the model") as status:
                bar = st.progress(0.0)
                asked = service.case_of(ref, reads=models.read_of_rows())
                prediction = service.answer(asked, lambda share, what: bar.progress(min(max(share, 0.0), 1.0), what))
                status.update(label="The model has answered", state="complete")
            state.saw(case.id)
            st.subheader("What the model says")
            widgets.figures(prediction)
            review.images(asked, prediction)
            review.verdict_form(reading, prediction)
