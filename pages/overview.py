"""Overview: what this is and is not, how to start, long runs, the state of the installation; and the guided tour."""

import streamlit as st

from dashboard.parts import jobs, overview, tour

number = tour.step()
if number is not None:
    tour.show(number)
else:
    st.title("CM-SSD")
    st.markdown(
        "One MRI and one H&E slide of a bone tumour become a severity, a map of the malignant tumour, and a report "
        "that says how far to trust them."
    )
    overview.what()
    overview.start()
    overview.model_in_use()
    st.subheader("Long runs")
    jobs.board()
    overview.installation()
