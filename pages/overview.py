"""Overview: what this is and is not, how to start, and the state of the installation."""

import streamlit as st

from dashboard import widgets
from dashboard.services import model as models

st.title("CM-SSD")
st.markdown(
    "One MRI and one H&E slide of a bone tumour become a severity, a map of the malignant tumour, and a report that "
    "says how far to trust them."
)
left, right = st.columns(2)
with left.container(border=True, height="stretch"):
    st.subheader("What it is")
    st.markdown(
        "- **Severity** S = 100 × A_tumour / A_bone: the share of the affected bone's envelope taken by malignant "
        "tumour, 0 to 100 %.\n"
        "- **Tumour** means malignant tumour: a benign lesion has an empty map and S = 0.\n"
        "- MRI and slide are mixed by a learned gate. The gate is shown as *where it weighted the MRI*.\n"
        "- Either input may be missing; without an MRI there is no map and no severity."
    )
with right.container(border=True, height="stretch"):
    st.subheader("What it is not")
    st.markdown(
        "- Not a medical device, not for diagnosis or treatment.\n"
        "- Not validated on patients: what the model was trained on stands beside every answer.\n"
        "- Severity tiers are unvalidated, and no interval is given until one is calibrated.\n"
        "- The gate and the attention of patches are no evidence of tumour."
    )
st.subheader("Start")
st.markdown(
    "Open **Analyse**, take the demo case or upload an MRI (NIfTI, NRRD, MHA, a DICOM series or a zip of one) and a "
    "slide (SVS, NDPI, TIFF, or a PNG or JPEG tile with its microns per pixel), and press **Run**. Files stay on "
    "this machine and are deleted when the session ends."
)
st.page_link("../pages/analyse.py", label="Analyse a case", icon=":material/arrow_forward:")
st.subheader("This installation")
with widgets.guarded("examining the installation"):
    widgets.checks(models.examine())
