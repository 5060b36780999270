"""Small pieces of screen that pages share: banner, findings, numbers with their doubt, the viewer."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol
from uuid import uuid4

import streamlit as st
from PIL import Image, ImageDraw

from cmssd_core.config import settings
from cmssd_core.report.display import most_tumour
from cmssd_core.report.html import bounds
from cmssd_core.types import CONTRASTS, Finding, InputError, Prediction, Slide, Volume
from dashboard import rights, state
from dashboard.services import case as cases
from dashboard.services import model as models
from dashboard.views import areas, frame, mri, slide


class Check(Protocol):
    """The part of cmssd_core.doctor.Check that is shown."""

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


def icon() -> Image.Image:
    """The browser tab's picture, drawn here: Streamlit would fetch a named icon from the internet."""
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((2, 2, 61, 61), 14, "#0f5c8c")
    draw.ellipse((12, 12, 51, 51), outline="#ffffff", width=6)
    draw.ellipse((32, 20, 50, 38), fill="#f1605d")
    return picture


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
        st.error(plain(str(mistake)), icon=":material/error:")
    except Exception as fault:
        tell_fault(fault, doing)


def tell_fault(fault: Exception, doing: str = "drawing the page") -> bool:
    """Our own fault as a sentence with an id on screen and a line in the log; True: nothing else need be shown.

    A user's mistake that no page expected, such as a malformed CMSSD_* variable, is told as what it is.
    """
    if isinstance(fault, InputError):
        st.error(plain(str(fault)), icon=":material/error:")
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


def doubted(label: str, value: str, doubt: str) -> None:
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


def uploader(slot: str, label: str, help_text: str, *, several: bool) -> state.Kept | None:
    """A file uploader whose files outlive a visit to another page; gives what is kept."""
    files = st.file_uploader(
        label,
        accept_multiple_files=several,
        key=f"upload_{slot}",
        help=help_text,
        on_change=state.forget,
        args=(slot,),
        max_upload_size=settings().upload_limit_mb,
    )
    fresh = files if isinstance(files, list) else [files] if files is not None else []
    if fresh and state.kept(slot) is None:
        with guarded("keeping the upload"):
            state.keep(slot, cases.keep(slot, fresh))
    kept = state.kept(slot)
    if kept is not None and not fresh:
        st.markdown(f"Kept from before: {len(kept.paths)} file(s), {kept.size_bytes / 1e6:.1f} MB")
        st.button("Remove", key=f"remove_{slot}", on_click=state.forget, args=(slot,))
    return kept


def contrast_choice(kept: state.Kept | None) -> dict[str, int] | None:
    """Which contrast each volume is, contrast -> number of the file; {} = the files say it, None = not chosen yet."""
    told = cases.contrasts_told(kept)
    several = len(told) > 1
    chosen: dict[str, int] = {}
    for number, guess in enumerate(told):
        options = list(CONTRASTS) if several else [AS_NAMED, *CONTRASTS]
        picked = st.selectbox(
            f"Contrast of file {number + 1}" if several else "Contrast",
            options,
            index=(None if guess is None else options.index(guess)) if several else 0,
            key=f"contrast_{number}_of_{len(told)}{_of(kept)}",
            persist_state="session",
            format_func=lambda name: name if name == AS_NAMED else name.upper(),
            help="Which sequence this is; needed where neither name nor header says it.",
        )
        if picked in CONTRASTS:
            chosen[picked] = number
    if several and len(chosen) < len(told):
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
    """Severity, probability, volumes and the gate, each with its doubt."""
    p = prediction
    columns = st.columns(4)
    with columns[0]:
        if p.severity_pct is None:
            doubted("Severity", "undefined", p.severity_reason or "no reason was recorded")
        else:
            low_high = p.severity_interval
            interval = "interval not calibrated" if low_high is None else f"{low_high[0]:.1f} to {low_high[1]:.1f} %"
            tier = f"**{p.tier}** tier, unvalidated ({bounds(settings().severity_tiers)})" if p.tier else "no tier"
            doubted("Severity", f"{short_of(100.0, p.severity_pct, 1)} %", f"{tier}; {interval}")
    with columns[1]:
        doubt = f"{sure(p.uncertainty or {})}; learned from: {plain(p.trained)}"
        doubted("Probability of malignancy", short_of(1.0, p.p_malignant, 3), doubt)
    with columns[2]:
        outside = "" if p.extraosseous_ml is None else f"{p.extraosseous_ml:.1f} mL of it outside the bone; "
        bone = "no MRI was given" if p.bone_ml is None else f"bone envelope {p.bone_ml:.1f} mL"
        doubted("Tumour volume", "–" if p.tumour_ml is None else f"{p.tumour_ml:.1f} mL", outside + bone)
    with columns[3]:
        at_site = "biopsy site unregistered" if p.gate_at_site is None else f"{p.gate_at_site:.2f} at the biopsy site"
        mean = "–" if p.gate_mean is None else f"{p.gate_mean:.2f}"
        doubted("Mean gate", mean, f"{at_site}; 1 = MRI, 0 = slide. How inputs were mixed, not evidence")


def short_of(whole: float, value: float, digits: int) -> str:
    """A number that never looks like the whole it falls short of: 0.9999 of 1 is ">0.999"."""
    text = f"{value:.{digits}f}"
    return f">{whole - 10.0**-digits:.{digits}f}" if value < whole and float(text) >= whole else text


def sure(uncertainty: Mapping[str, float]) -> str:
    """What calibration says of the probability, in a reader's words."""
    if not {"conformal_benign", "conformal_malignant", "coverage"} <= uncertainty.keys():
        return "not calibrated"
    names = [name for name in ("benign", "malignant") if uncertainty[f"conformal_{name}"] >= 0.5]
    at = f"at {uncertainty['coverage']:.0%}"
    if len(names) == 1:
        return f"{at} only “{names[0]}” remains possible"
    return f"{at} both benign and malignant remain possible" if names else f"{at} neither fits: unlike the known cases"


@st.fragment
def viewer(result: state.Result) -> None:
    """MRI with its maps beside the slide with its patches; moving a slider redraws this part only."""
    case, p = result.case, result.prediction
    volume, bag = case.inputs.get("mri"), case.inputs.get("he")
    controls = st.columns([3, 2, 2])
    opacity = controls[2].slider("Opacity of the maps", 0.0, 1.0, 0.4, 0.05, key="opacity")
    index = 0
    left, right = st.columns(2)
    if isinstance(volume, Volume) and "tumour" in p.maps:
        count = len(p.slices)
        if count > 1:
            index = controls[0].slider("Slice", 1, count, most_tumour(p) + 1, key=f"slice_{case.id[:12]}") - 1
        names = list(volume.contrasts)
        contrast = controls[1].selectbox("Contrast shown", names, format_func=str.upper, key=f"shown_{case.id[:12]}")
        with left:
            st.markdown("#### Tumour on the MRI")
            _chart(
                mri.tumour_slice(volume, p, index=index, contrast=contrast, opacity=opacity),
                "tumour",
                mri.tumour_alt(p, index=index, contrast=contrast),
            )
            st.markdown(":small[White: tumour at 0.5 and above. Blue: bone at 0.5 and above. Hover for raw values.]")
    else:
        left.info("No MRI was given: there is no map and no severity.", icon=":material/info:")
        contrast = ""
    with right:
        st.markdown("#### Patches on the slide")
        if isinstance(bag, Slide):
            picture, per_px = cases.thumbnail(case.id)
            _chart(slide.patch_grid(picture, per_px, bag.mpp, p, opacity=opacity), "patches", slide.slide_alt(p))
            st.markdown(":small[A patch's attention says how much it counted in the pooling; all sum to 1.]")
        else:
            st.info("No slide was given.", icon=":material/info:")
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
