"""The guided tour for clinical partners: six steps over the demo cohort, in words a clinician reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape

import streamlit as st

from cmssd_core.report.display import most_tumour
from cmssd_core.types import InputError, Volume
from cmssd_core.volume.contrasts import contrast_label
from dashboard import widgets
from dashboard.services import tour
from dashboard.services.tour import Patient
from dashboard.views import charts, frame, mri, slide
from dashboard.views import tour as views
from dashboard.views.wording import words

_KEY = "tour"  # of the address, so that a step can be sent as a link


@dataclass(frozen=True)
class Step:
    """One screen: a heading, what is said in big type, and what is shown below."""

    heading: str
    say: Callable[[], str]
    draw: Callable[[], None]


def step() -> int | None:
    """The step the address asks for, from 1; None = no tour."""
    text = st.query_params.get(_KEY, "")
    return int(text) if text.isdecimal() and 1 <= int(text) <= len(STEPS) else None


def go(to: int | None) -> None:
    """Opens a step, or ends the tour."""
    if to is None:
        st.query_params.pop(_KEY, None)
    else:
        st.query_params[_KEY] = str(to)


def show(number: int) -> None:
    """A step with its way back and on; the arrow keys turn the page."""
    one = STEPS[number - 1]
    st.markdown(f"Guided tour, step {number} of {len(STEPS)} – every patient here is synthetic")
    st.progress(number / len(STEPS))
    st.title(one.heading)
    with widgets.guarded("showing the tour"):
        st.html(f"<p style='font-size:1.35rem;line-height:1.55;max-width:62rem;margin:0'>{escape(one.say())}</p>")
        one.draw()
    back, on, _, leave = st.columns([1.4, 1.4, 4, 1.4])
    back.button(
        "Back", key="tour_back", icon=":material/arrow_back:", on_click=go, args=(number - 1,), width="stretch",
        disabled=number == 1, shortcut="Left",
    )  # fmt: skip
    if number < len(STEPS):
        on.button(
            "Next", key="tour_next", icon=":material/arrow_forward:", on_click=go, args=(number + 1,), type="primary",
            width="stretch", shortcut="Right",
        )  # fmt: skip
    leave.button("End the tour", key="tour_end", on_click=go, args=(None,), width="stretch")


def _known(value: float | None) -> float:
    """A figure that the tour cannot do without."""
    if value is None:
        raise InputError("the results of the demo cohort lack a figure of the tour; run cmssd evaluate data_samples")
    return value


def _volume(patient: Patient) -> Volume:
    volume = patient.case.inputs["mri"]
    assert isinstance(volume, Volume)
    return volume


def _chart(figure: object, key: str, alt: str, *, picture: bool = True) -> None:
    st.plotly_chart(
        figure, key=f"tour_{key}", alt=alt, theme=None if picture else "streamlit",
        config=frame.CONFIG if picture else charts.CONFIG,
    )  # fmt: skip


def _say_images() -> str:
    return (
        "This patient was made by a computer, as was every patient you will see here. The MRI, on the left, shows "
        "where a bone tumour lies and how large it is. The slide of its biopsy, on the right, shows what it is. "
        "CM-SSD reads both together."
    )


def _draw_images() -> None:
    patient = tour.patient(tour.WHOLE)
    volume, p = _volume(patient), patient.prediction
    index, contrast = most_tumour(p), volume.contrasts[0]
    left, right = st.columns(2)
    with left:
        figure = views.bare_slice(volume, p, index=index, contrast=contrast)
        _chart(figure, "mri", f"{contrast_label(contrast)} slice {index + 1} of the synthetic patient's MRI")
    with right:
        bare = replace(p, patch_xy=None)
        figure = slide.patch_grid(patient.picture, patient.px_per_px, _mpp(patient), bare, opacity=0.0, tall_px=460)
        _chart(figure, "slide", "The synthetic H&E slide of the same patient")


def _mpp(patient: Patient) -> float | None:
    return getattr(patient.case.inputs["he"], "mpp", None)


def _say_maps() -> str:
    p = tour.patient(tour.WHOLE).prediction
    return (
        f"The model colours each point of the MRI by how probably it is malignant tumour. Here that makes "
        f"{_known(p.tumour_ml):.1f} mL of tumour (white line) and {_known(p.bone_ml):.1f} mL of affected bone (blue "
        "line). On the slide it tells how much each piece counted: how inputs were weighed, which is no evidence of "
        "tumour."
    )


def _draw_maps() -> None:
    patient = tour.patient(tour.WHOLE)
    volume, p = _volume(patient), patient.prediction
    index, contrast = most_tumour(p), volume.contrasts[0]
    left, right = st.columns(2)
    with left:
        figure = mri.tumour_slice(volume, p, index=index, contrast=contrast, opacity=0.5, tall_px=460)
        _chart(figure, "map", mri.tumour_alt(volume, p, index=index, contrast=contrast))
    with right:
        figure = slide.patch_grid(patient.picture, patient.px_per_px, _mpp(patient), p, opacity=0.4, tall_px=460)
        _chart(figure, "patches", slide.slide_alt(p))
    st.markdown(f":small[Model {widgets.plain(p.model_id)}, trained on {widgets.plain(p.trained)}.]")


def _marked() -> views.Record:
    name = tour.names()[tour.WHOLE]
    return next(t for t in tour.load_patients() if t.name == name)


def _say_severity() -> str:
    one = _marked()
    interval = "" if one.severity_low is None else f" ({one.severity_low:.0f} to {one.severity_high:.0f} %)"
    known = "" if one.severity_true is None else f" The known answer is {one.severity_true:.0f} %."
    return (
        f"Severity is the share of the affected bone's area that malignant tumour takes. For this patient the model "
        f"says {_known(one.severity):.0f} %{interval}.{known} A number without its interval says too little: look at "
        "how often the bars below miss the dotted line, where model and known answer agree."
    )


def _draw_severity() -> None:
    error = tour.figure("severity_mae")
    _chart(
        views.severities(tour.load_patients(), marked=_marked().name), "severities",
        f"Severity from the model against the known one, {error.n} synthetic patients", picture=False,
    )  # fmt: skip
    st.markdown(
        f"Mean error over the demo cohort: **{words(error, 1)}** percentage points (95 % interval). "
        "Diamond: the patient of the tour. Bars: intervals calibrated on other synthetic patients."
    )


def _say_probability() -> str:
    wrong = [t for t in tour.load_patients() if t.p is not None and (t.p >= 0.5) != t.malignant]
    count = len(tour.load_patients())
    verb = "falls" if len(wrong) == 1 else "fall"
    return (
        f"The model also gives a probability that the tumour is malignant. Of the {count} demo patients, {len(wrong)} "
        f"{verb} on the wrong side of one half. So few patients can't tell how good a test is, which is why every "
        "figure here comes with an interval."
    )


def _draw_probability() -> None:
    summary = tour.load_patients()
    alt = "; ".join(
        f"{t.name} {'malignant' if t.malignant else 'benign'} {t.p:.2f}" for t in summary if t.p is not None
    )
    _chart(views.probabilities(summary), "probabilities", f"Probability of malignancy by patient: {alt}", picture=False)
    st.markdown(
        f"Area under the ROC curve: **{words(tour.figure('auc'))}** (95 % interval); sensitivity at one half "
        f"**{words(tour.figure('sensitivity'))}**, specificity **{words(tour.figure('specificity'))}**."
    )


def _say_alone() -> str:
    some = views.complete(tour.load_patients())
    pairs = [(min(_known(t.p_mri), _known(t.p_slide)), max(_known(t.p_mri), _known(t.p_slide)), t) for t in some]
    helped = sum(low < 0.5 <= _known(t.p) for low, _, t in pairs)
    hurt = sum(_known(t.p) < 0.5 <= high for _, high, t in pairs)
    return (
        f"Why both? These are the {len(some)} malignant patients who have both images. One image alone would have "
        f"called {helped} of them benign, where both together say malignant; and {hurt} the other way round: the next "
        "step shows it. Where an image is missing, the model still answers and says so; without an MRI there is no "
        "severity."
    )


def _draw_alone() -> None:
    summary = tour.load_patients()
    _chart(views.alone(summary), "alone", views.alone_alt(summary), picture=False)
    st.markdown(f":small[Results of {widgets.plain(tour.model_id())} that come with the demo cohort.]")


def _missed() -> views.Record:
    name = tour.names()[tour.MISSED]
    return next(t for t in tour.load_patients() if t.name == name)


def _say_missed() -> str:
    one = _missed()
    return (
        f"And it fails. This tumour is malignant and takes {_known(one.severity_true):.0f} % of the bone (orange, "
        f"dashed). The slide shows no sign of it, and the model says {_known(one.severity):.0f} % and a probability of "
        f"{_known(one.p):.2f}. From the MRI alone it would have said {_known(one.p_mri):.2f}: here the second image "
        "misled it. Don't believe a map because it looks right. CM-SSD is for asking when such a model can be "
        "believed. It is not for patients."
    )


def _draw_missed() -> None:
    patient = tour.patient(tour.MISSED)
    volume, p, truth = _volume(patient), patient.prediction, patient.case.truth.masks.get("tumour")
    if truth is None:
        return
    index = int(truth.sum(axis=(1, 2)).argmax())
    contrast = volume.contrasts[0]
    left, right = st.columns(2)
    with left:
        figure = views.missed_slice(volume, p, truth, index=index, contrast=contrast)
        _chart(
            figure,
            "missed",
            f"{contrast_label(contrast)} slice {index + 1} with the edge of the tumour the model missed",
        )
    with right:
        figure = slide.patch_grid(patient.picture, patient.px_per_px, _mpp(patient), p, opacity=0.4, tall_px=460)
        _chart(figure, "missed_slide", slide.slide_alt(p))
    st.markdown("End the tour to open a case yourself, or a whole cohort.")


STEPS = (
    Step("One patient, two images", _say_images, _draw_images),
    Step("Where the model sees tumour", _say_maps, _draw_maps),
    Step("How severe, and how sure", _say_severity, _draw_severity),
    Step("Malignant or not", _say_probability, _draw_probability),
    Step("What each image adds", _say_alone, _draw_alone),
    Step("Where it is wrong", _say_missed, _draw_missed),
)
