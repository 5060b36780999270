"""Small pieces of screen that pages share: banner, findings, numbers with their doubt, the viewer."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from uuid import uuid4

import streamlit as st

from cmssd_core.report.answers import name_unanswered
from cmssd_core.types import Finding, InputError, Prediction, Slide, Volume
from cmssd_core.volume.contrasts import CONTRASTS, contrast_label
from dashboard import rights, state
from dashboard.cards import make_cards
from dashboard.config import dashboard_settings
from dashboard.controls import name_control
from dashboard.inputs import describe_absent, describe_undrawn, name_modality
from dashboard.services import case as cases
from dashboard.services import model as models
from dashboard.views import areas, frame, mri, slide


class Check(Protocol):
    """The part of cmssd_core.machine.doctor.Check that is shown."""

    name: str
    ok: bool
    found: str
    advice: str | None
    required: bool


_LOG = logging.getLogger("cmssd.dashboard")
AS_NAMED = "as the file says"
_BADGES = {
    "info": (":blue-badge[:material/info: info]"),
    "warning": (":orange-badge[:material/warning: warning]"),
    "severe": (":red-badge[:material/error: severe]"),
}


#: The browser tab's picture. Streamlit would fetch a named icon from the internet, and a drawn one asks for a sign-in.
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect x="2" y="2" width="60" height="60" rx="14"
fill="#0f5c8c"/><circle cx="32" cy="32" r="17" fill="none" stroke="#fff" stroke-width="6"/><circle cx="41" cy="29" r="9"
fill="#f1605d"/></svg>"""

#: Takes away the button of st.dataframe that saves a table, for those who may not take data away.
NO_CSV = """<style>
[data-testid="stElementToolbarButton"]:has(button[aria-label^="Download as CSV"]) { display: none; }
</style>"""


def banner() -> None:
    """Stands on top of every screen."""
    st.warning(
        "**Research use only – not a medical device.** Not for diagnosis or treatment.", icon=":material/science:"
    )


@contextmanager
def guarded(doing: str) -> Iterator[None]:
    """Turns a user's mistake into its sentence and our own fault into a sentence with an id; the page lives on."""
    try:
        yield
    except InputError as mistake:
        st.error(plain(name_control(mistake)), icon=":material/error:")
    except Exception as fault:
        tell_fault(fault, doing)


def tell_fault(fault: Exception, doing: str = "drawing the page") -> bool:
    """Our own fault as a sentence with an id on screen and a line in the log; True: nothing else need be shown.

    A user's mistake that no page expected, such as a malformed CMSSD_* variable, is told as what it is.
    """
    if isinstance(fault, InputError):
        st.error(plain(name_control(fault)), icon=":material/error:")
        return True
    number = uuid4().hex[:8]
    # The message itself may quote a file or a header, so only its kind and the places in the code are logged.
    places = " < ".join(f"{f.filename}:{f.lineno}" for f in reversed(traceback.extract_tb(fault.__traceback__)))
    _LOG.error("error %s while %s: %s at %s", number, doing, type(fault).__name__, places)
    st.error(
        f"Something went wrong in the program while {doing} (error {number}, {type(fault).__name__}). Your files "
        "are still here; try again, and report this id if it comes back.",
        icon=":material/bug_report:",
    )
    return True


def plain(text: str) -> str:
    """Text that came from elsewhere, so that Markdown shows it as it is."""
    return "".join("\\" + c if c in r"\`*_{}[]<>#$~:" else c for c in text)


def model_in_use() -> None:
    """The sidebar's card: which model answers, and what it was trained on."""
    st.caption("Model in use")
    with guarded("loading the model"):
        predictor = models.model()
        st.markdown(f"**{plain(predictor.model_id)}**")
        st.markdown(f"Trained on: {plain(str(predictor.trained))}")


def show_figure(label: str, value: str, doubt: str) -> None:
    """A number and, right below it, why not to trust it blindly."""
    with st.container(border=True, height="stretch"):
        st.metric(label, value)
        st.markdown(f":small[{doubt}]")


def findings(found: Sequence[Finding]) -> None:
    """Quality remarks, the severe ones first."""
    if not found:
        st.markdown("Nothing was found that speaks against these inputs.")
    for finding in sorted(found, key=lambda f: ("severe", "warning", "info").index(f.level)):
        st.markdown(f"{_BADGES[finding.level]} {plain(finding.what)} :gray[({plain(finding.where)})]")


def uploader(slot: str) -> state.Kept | None:
    """The field of one modality, whose files outlive a visit to another page; gives what is kept."""
    field = cases.FIELDS[slot]
    files = st.file_uploader(
        field.label,
        accept_multiple_files=field.several,
        key=f"upload_{slot}",
        help=field.help,
        on_change=state.forget,
        args=(slot,),
        max_upload_size=dashboard_settings().upload_limit_mb,
    )
    fresh = files if isinstance(files, list) else [files] if files is not None else []
    if fresh and state.get_uploads(slot) is None:
        with guarded("keeping the upload"):
            state.keep(slot, cases.keep(slot, fresh))
    kept = state.get_uploads(slot)
    if kept is not None and not fresh:
        st.markdown(f"Kept from before: {len(kept.paths)} file(s), {kept.size_bytes / 1e6:.1f} MB")
        st.button("Remove", key=f"remove_{slot}", on_click=state.forget, args=(slot,))
    return kept


def contrast_choice(kept: state.Kept | None) -> dict[str, int] | None:
    """Which contrast each volume is, contrast -> number of the file; {} = the files say it, None = not chosen yet."""
    summary = cases.contrasts_told(kept)
    several = len(summary) > 1
    chosen: dict[str, int] = {}
    for number, guess in enumerate(summary):
        options = list(CONTRASTS) if several else [AS_NAMED, *CONTRASTS]
        picked = st.selectbox(
            f"Contrast of file {number + 1}" if several else "Contrast",
            options,
            index=(None if guess is None else options.index(guess)) if several else 0,
            key=f"contrast_{number}_of_{len(summary)}{_of(kept)}",
            persist_state="session",
            format_func=lambda name: name if name == AS_NAMED else contrast_label(name),
            help="Which sequence this is; needed where neither name nor header says it.",
        )
        if picked in CONTRASTS:
            chosen[picked] = number
    if several and len(chosen) < len(summary):
        st.info("Choose a different contrast for each file.", icon=":material/info:")
        return None
    return chosen


def mpp_choice(slide: state.Kept | None) -> float | None:
    """Microns per pixel of an uploaded slide; None = as the file says."""
    return st.number_input(
        "Microns per pixel of the slide", min_value=0.01, max_value=100.0, value=None, step=0.0001, format="%.4f",
        placeholder="as the file says", key=f"mpp{_of(slide)}", persist_state="session", disabled=slide is None,
        help="Needed where the file does not say it, as with PNG and JPEG.",
    )  # fmt: skip


def site_choice(volume: state.Kept | None, slide: state.Kept | None) -> tuple[float, ...] | None:
    """Where the biopsy was taken, RAS+ mm in the MRI's frame; None = unregistered, fewer than three = incomplete."""
    if volume is None or slide is None:
        return None
    these = _of(volume, slide)
    if not st.checkbox("The biopsy site is known", key=f"site_known{these}", persist_state="session"):
        return None
    st.markdown(":small[RAS+ mm in the MRI's frame: x grows to the patient's right, y to the front, z to the head.]")
    given = [
        column.number_input(
            f"{axis}, mm", value=None, key=f"site_{axis}{these}", format="%.1f", persist_state="session"
        )
        for column, axis in zip(st.columns(3), "xyz", strict=True)
    ]
    site = tuple(float(v) for v in given if v is not None)
    if len(site) < 3:
        st.info("Fill in all three coordinates, or untick the box.", icon=":material/info:")
    return site


def _of(*kept: state.Kept | None) -> str:
    """What a choice about uploaded files has in its key: another patient's files never meet the former one's."""
    return "".join(f"_{each.folder.name}" for each in kept if each is not None)


def checks(found: Sequence[Check]) -> None:
    """The doctor's findings: what is right, what is not and how to mend it."""
    for check in found:
        missing = ":red-badge[:material/build: mend]" if check.required else ":orange-badge[:material/info: optional]"
        mark = ":green-badge[:material/check: ok]" if check.ok else missing
        advice = f" – {plain(str(check.advice))}" if check.advice and not check.ok else ""
        st.markdown(f"{mark} **{plain(str(check.name))}**: {plain(str(check.found))}{advice}")


def figures(prediction: Prediction) -> None:
    """What the model answers, each with its doubt; and in a sentence what it does not answer."""
    made = make_cards(prediction)
    for column, card in zip(st.columns(max(4, len(made))), made, strict=False):
        with column:
            show_figure(card.title, card.value, card.doubt)
    unanswered(prediction)
    st.markdown(f":small[:gray[Model {plain(prediction.model_id)}, which learned from: {plain(prediction.trained)}]]")


def unanswered(prediction: Prediction) -> None:
    """What a reader may look for and the model does not answer."""
    missing = name_unanswered(prediction)
    if missing is not None:
        st.info(missing, icon=":material/info:")


@st.fragment
def viewer(result: state.Result) -> None:
    """MRI with its maps beside the slide with its patches; moving a slider redraws this part only."""
    case, p = result.case, result.prediction
    volume, bag = case.inputs.get("mri"), case.inputs.get("he")
    controls = st.columns([3, 2, 2])
    opacity = controls[2].slider("Opacity of the maps", 0.0, 1.0, 0.4, 0.05, key="opacity")
    index, contrast = 0, ""
    left, right = st.columns(2)
    if isinstance(volume, Volume):
        count = mri.count_slices(volume)
        if count > 1:
            start = mri.first_slice(volume, p) + 1
            index = controls[0].slider("Slice", 1, count, start, key=f"slice_{case.id[:12]}") - 1
        names = list(volume.contrasts)
        contrast = controls[1].selectbox(
            "Contrast shown", names, format_func=contrast_label, key=f"shown_{case.id[:12]}"
        )
    with left:
        st.markdown(f"#### {'Tumour on the ' if 'tumour' in p.maps else ''}{name_modality('mri')}")
        if not isinstance(volume, Volume):
            st.info(describe_absent("mri", p), icon=":material/info:")
        else:
            figure = mri.tumour_slice(volume, p, index=index, contrast=contrast, opacity=opacity)
            _chart(figure, "tumour", mri.tumour_alt(volume, p, index=index, contrast=contrast))
            st.markdown(f":small[{mri.describe_lines(p)}]")
    with right:
        st.markdown(f"#### {'Patches on the ' if p.patch_xy is not None else ''}{name_modality('he')}")
        if isinstance(bag, Slide):
            picture, per_px = cases.thumbnail(case.id)
            _chart(slide.patch_grid(picture, per_px, bag.mpp, p, opacity=opacity), "patches", slide.slide_alt(p))
            if p.patch_attention is not None:
                st.markdown(":small[A patch's attention says how much it counted in the pooling; all sum to 1.]")
        else:
            st.info(describe_absent("he"), icon=":material/info:")
    undrawn = describe_undrawn(case)
    if undrawn is not None:
        st.markdown(undrawn)
    left, right = st.columns(2)
    if isinstance(volume, Volume) and "attention" in p.maps:
        with left:
            st.markdown("#### Where the gate weighted the MRI – not evidence")
            _chart(
                mri.gate_slice(volume, p, index=index, contrast=contrast, opacity=opacity),
                "gate",
                mri.gate_alt(volume, p, index=index),
            )
    if p.slices:
        with right:
            st.markdown("#### Area of each slice")
            figure = areas.slice_areas(p, index=index, tall_px=500)
            st.plotly_chart(figure, key="areas", alt=areas.areas_alt(p), config=frame.CONFIG | {"scrollZoom": False})


def _chart(figure: object, key: str, alt: str) -> None:
    # Pictures of a patient keep their own dark ground in both themes, as on a reading screen.
    st.plotly_chart(figure, key=key, alt=alt, theme=None, config=frame.CONFIG)


def downloads(result: state.Result) -> None:
    """The report and everything else as files; names carry the case number only."""
    if not rights.session_may("export"):
        st.info("Your role does not include taking results away.", icon=":material/lock:")
        return
    short = result.case.id[:12]
    left, right, _ = st.columns([1, 1, 2])
    left.download_button(
        "Report (HTML)", result.html, f"cmssd_{short}.html", "text/html",
        key="report", icon=":material/description:", on_click="ignore", width="stretch",
    )  # fmt: skip
    right.download_button(
        "All files (zip)", result.archive, f"cmssd_{short}.zip", "application/zip",
        key="archive", icon=":material/folder_zip:", on_click="ignore", width="stretch",
    )  # fmt: skip


def doings(prediction: Prediction) -> None:
    """What was done to the inputs, and how long each part took."""
    left, right = st.columns([2, 1])
    left.markdown("\n".join(f"1. {plain(step)}" for step in prediction.steps) or "no steps were recorded")
    right.table({"step": list(prediction.timings_s), "seconds": [f"{v:.2f}" for v in prediction.timings_s.values()]})
