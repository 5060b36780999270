"""The Overview's pieces: what this is and is not, ways to start, the model in use, the installation."""

from __future__ import annotations

import streamlit as st

from dashboard import rights, selection, widgets
from dashboard.parts import tour
from dashboard.services import case as cases
from dashboard.services import intake
from dashboard.services import model as models
from dashboard.services import tour as toured


def what() -> None:
    """What it is and what it is not, side by side."""
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        st.subheader("What CM-SSD is")
        st.markdown(
            "- **Severity** S = 100 × A_tumour / A_bone: the share of the affected bone's envelope taken by malignant "
            "tumour, 0 to 100 %.\n"
            "- **Tumour** means malignant tumour: a benign lesion has an empty map and S = 0.\n"
            "- MRI and slide are mixed by a learned gate. The gate is shown as *where it weighted the MRI*.\n"
            "- Either input may be missing; without an MRI there is no map and no severity.\n"
            "- Other models answer other things: what the model in use answers stands below."
        )
    with right.container(border=True, height="stretch"):
        st.subheader("What it is not")
        st.markdown(
            "- Not a medical device, not for diagnosis or treatment.\n"
            "- Not validated on patients: what the model was trained on stands beside every answer.\n"
            "- Severity tiers are unvalidated; an interval holds for cases like those it was calibrated on.\n"
            "- The gate and the attention of patches are no evidence of tumour."
        )


def start() -> None:
    """The tour, one case, one cohort."""
    st.subheader("Start")
    first, second, third = st.columns(3)
    with first.container(border=True, height="stretch"):
        st.markdown("**Look around**")
        st.markdown("Six steps over synthetic patients: what goes in, what comes out, and where it is wrong.")
        if toured.is_installed():
            st.button(
                "Take the tour", key="tour_start", type="primary", icon=":material/tour:", on_click=tour.go, args=(1,)
            )
        else:
            st.markdown(":small[The tour needs `data_samples` of a full checkout, which is not here.]")
    with second.container(border=True, height="stretch"):
        st.markdown("**One case**")
        st.markdown(
            "The demo case, or an MRI (NIfTI, NRRD, MHA, a DICOM series or a zip of one) and a slide (SVS, NDPI, TIFF, "
            "or a PNG or JPEG tile) of yours. Files stay on this machine and go when the session ends."
        )
        if rights.session_may("cases"):
            st.page_link("../pages/analyse.py", label="Analyse a case", icon=":material/arrow_forward:")
    with third.container(border=True, height="stretch"):
        st.markdown("**A cohort**")
        demo = cases.demo()
        named = "" if demo is None or demo.cohort is None else f" **{widgets.plain(demo.cohort.parent.name)}** is open."
        st.markdown(f"A folder with a `cohort.csv`, one row a case.{named} `CMSSD_COHORT` says which one at the start.")
        if rights.session_may("cases"):
            _open()
            st.page_link("../pages/cohort.py", label="Go to the cohort", icon=":material/arrow_forward:")


def _open() -> None:
    with st.form("overview_open", border=False):
        words = st.text_input(
            "Folder on the machine that runs CM-SSD", key="overview_folder", placeholder="/data/study"
        )
        asked = st.form_submit_button("Open", icon=":material/folder_open:")
    if asked:
        with widgets.guarded("opening the cohort"):
            found = intake.examine_folder(words)
            if found.cohort is None:
                st.error("This table cannot be used as it is; the Cohort page names what to mend.")
                return
            intake.remember(found.cohort)
            selection.set_open_cohort(found.cohort)
            st.success(f"{found.report.cases:,} cases are open.", icon=":material/check_circle:")


def model_in_use() -> None:
    """Which model answers, of what size, and what it was trained on."""
    st.subheader("The model in use")
    with widgets.guarded("loading the model"):
        predictor = models.model()
        count = sum(parameter.numel() for parameter in predictor.model.parameters())
        calibrated = "calibrated" if predictor.calibration is not None else "not calibrated: no interval is given"
        st.markdown(
            f"**{widgets.plain(predictor.model_id)}**, {count / 1e6:.1f} million parameters, on "
            f"{predictor.device.type}. Trained on: {widgets.plain(str(predictor.trained))}. {calibrated.capitalize()}."
        )
        st.markdown(f"It reads {models.describe_inputs()} and answers {models.describe_tasks()}.")


def installation() -> None:
    """The doctor's findings: what is amiss stands open, the rest can be unfolded."""
    st.subheader("This installation")
    with widgets.guarded("examining the installation"):
        found = models.examine()
        wrong = [check for check in found if not check.ok]
        if wrong:
            widgets.checks(wrong)
        with st.expander(f"{len(found) - len(wrong)} of {len(found)} checks are right", icon=":material/stethoscope:"):
            widgets.checks([check for check in found if check.ok])
