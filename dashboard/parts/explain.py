"""The Explain page's case: what is asked, the maps on both images, how far to trust them, and two beside each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.explain.baselines import BASELINES
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.explain.targets import TARGETS
from cmssd_core.types import Attribution, BoolArray, Slide, Volume
from dashboard import state, widgets
from dashboard.inputs import describe_absent, name_modality
from dashboard.parts import explain_place
from dashboard.parts.working import progress, was_stopped
from dashboard.services import criteria, reading
from dashboard.services import explain as service
from dashboard.services.explain import Question
from dashboard.viewers import mri, slide
from dashboard.viewers.layers import Outlines

OWN, METHOD, MODEL = "nothing", "another method", "another model"
FIRST, SECOND = "gradcam", "integrated_gradients"
Asked = tuple[Question, BoolArray | None]


def describe_unmapped(result: state.Result) -> str | None:
    """That no map can be drawn of this case, in a sentence; None where one can."""
    names = service.unmapped(result)
    if not names:
        return None
    nouns = " and ".join(MODALITIES[name].noun for name in names)
    return (
        f"Maps are not offered for a case with {nouns}: no method of explaining takes it yet. What each input "
        "contributes is told below."
    )


def show_whole(result: state.Result) -> Question:
    """What the inputs of the model in use contribute to its answer on this case."""
    return Question(result.key, service.MODALITIES)


def questions(result: state.Result) -> list[Asked]:
    """What the reader asks: one question, or two to be compared."""
    models, table = service.models(), service.methods()
    first, second, third, fourth = st.columns([3, 3, 3, 2], vertical_alignment="bottom")
    weights = first.selectbox(
        "Model", list(models), format_func=models.__getitem__, key="explain_model",
        help="The model in use, and others that are shipped.",
    )  # fmt: skip
    asking = _target(result, weights, second)
    names = list(service.able(weights))
    method = third.selectbox(
        "Method", names, index=names.index(FIRST) if FIRST in names else 0, key="explain_method",
        format_func=lambda name: table[name].label,
        help="How the map is made; what each one is, and is not, stands beside its map.",
    )  # fmt: skip
    chosen = _settings(fourth)
    if asking is None:
        return []
    target, region, mask = asking
    asked = Question(result.key, method, target, region, weights, chosen)
    left, right, _ = st.columns([3, 3, 5], vertical_alignment="bottom")
    choices = [OWN, METHOD, *([MODEL] if len(models) > 1 else [])]
    beside = left.selectbox("Compare with", choices, key="explain_beside")
    if beside == METHOD:
        others = [name for name in names if name != method]
        start = others.index(SECOND) if SECOND in others else 0
        other = right.selectbox(
            "Second method", others, index=start, format_func=lambda name: table[name].label, key="explain_second"
        )
        return [(asked, mask), (replace(asked, method=other), mask)]
    if beside == MODEL:
        rest = [each for each in models if each != weights]
        other_model = right.selectbox("Second model", rest, format_func=models.__getitem__, key="explain_second_model")
        return [(asked, mask), (replace(asked, weights=other_model), mask)]
    return [(asked, mask)]


def _target(result: state.Result, weights: Path | None, column: Any) -> tuple[str, str, BoolArray | None] | None:
    """Name of the target, key and mask of its region; None while there is no region to read a map in."""
    on_offer = service.targets(weights)
    target = column.selectbox(
        "What is explained", list(on_offer), format_func=lambda name: on_offer[name].capitalize(), key="explain_target",
        help="One number of the model's answer, such as the malignancy (as a logit), or a map in a region.",
    )  # fmt: skip
    if not TARGETS[target].regional:
        return target, "", None
    left, right = st.columns([2, 1])
    radius = right.slider("Radius of the ball, mm", 2, 40, 10, key="explain_radius")
    voxel = explain_place.get_marked(result)
    present = service.regions(result, voxel, float(radius))
    if voxel is None:
        right.markdown(":small[Click on the MRI below to mark a voxel.]")
    if not present:
        left.info("There is no region yet: mark a voxel on the MRI first.", icon=":material/info:")
        return None
    names, before = list(present), st.session_state.get("explain_region")
    ball = f"a ball of {radius} mm around the marked voxel"
    # A browser knows an option by its words: at another radius it is another box, which begins with the same choice.
    name = left.selectbox(
        "In which region", names, index=names.index(before) if before in names else 0, key=f"explain_region_{radius}",
        format_func=lambda each: ball if each == service.BALL else each,
    )  # fmt: skip
    st.session_state["explain_region"] = name
    return target, service.region_key(name, present[name]), present[name]


def _settings(column: Any) -> ExplainSettings:
    with column.popover("Settings", icon=":material/tune:", width="stretch"):
        st.markdown("What an image without content is. Another baseline gives another map.")
        mri_name, he_name = (
            st.selectbox(f"Baseline of the {name_modality(name)}", list(BASELINES[name]),
                         format_func=lambda each, n=name: BASELINES[n][each][0], key=f"explain_baseline_{name}")
            for name in ("mri", "he")
        )  # fmt: skip
    return ExplainSettings(baseline_mri=mri_name, baseline_he=he_name)


def find_answer(result: state.Result, asked: Asked, number: int) -> Attribution | None:
    """The map: at once where it is instant or known, else after a press; None while there is none."""
    question, mask = asked
    present = service.find_known(question)
    if present is not None:
        return present
    method, key = service.methods()[question.method], f"explain_{number}"
    stopped = was_stopped(key)
    if method.slow or stopped:
        if stopped:
            st.info("Stopped; nothing was kept.", icon=":material/stop_circle:")
        pressed = st.button(
            f"Draw {method.label}", type="primary", key=f"draw_{number}", icon=":material/brush:",
            help="Takes seconds to a minute on two cores.",
        )  # fmt: skip
        if not pressed:
            return None
    with widgets.guarded("explaining the answer"), progress(method.label, key) as tell:
        return service.ask(question, result, mask, tell)
    return None


def badges(summary: Attribution) -> None:
    """What was asked, whether it adds up, how long it took, and what it is and is not."""
    if summary.gap is not None:
        colour = "green" if summary.gap <= 0.05 else "orange" if summary.gap <= 0.15 else "red"
        sums = f":{colour}-badge[:material/functions: adds up but for {summary.gap:.1%}]"
    elif service.methods()[summary.method].additive:
        sums = ":gray-badge[:material/functions: too small a difference to judge its sum]"
    else:
        sums = ":gray-badge[:material/functions: promises no sum]"
    took = f":blue-badge[:material/timer: {summary.seconds:.1f} s]"
    evidence = ":red-badge[:material/block: not evidence] " if summary.method == "gate" else ""
    st.markdown(f"{evidence}{sums} {took} :gray-badge[{widgets.plain(summary.effort)}]")
    start = (
        ""
        if summary.baseline_value is None
        else f" Without content ({summary.baseline}): {summary.baseline_value:+.2f}."
    )
    st.markdown(
        f"**{widgets.plain(summary.label)}** of **{widgets.plain(summary.target)}** = {summary.value:+.2f} "
        f"{widgets.plain(summary.unit)}.{widgets.plain(start)} {service.methods()[summary.method].meaning}"
    )
    for note in summary.notes:
        st.markdown(f":small[{widgets.plain(note)}]")
    st.markdown(f":small[:gray[Model {widgets.plain(summary.model_id)}, trained on: {widgets.plain(summary.trained)}]]")


@st.fragment
def maps(result: state.Result, summary: list[Attribution]) -> None:
    """One map on MRI and slide beside each other, or two maps in two columns that move together."""
    opacity = st.slider("Opacity of the maps", 0.0, 1.0, 0.5, 0.05, key="explain_opacity")
    with widgets.guarded("drawing the maps"):
        if len(summary) == 1:
            badges(summary[0])
            left, right = st.columns(2)
            with left:
                st.markdown(f"#### {name_modality('mri')}")
                _mri(result, summary[0], opacity, 0, None, 560)
            with right:
                st.markdown(f"#### {name_modality('he')}")
                _slide(result, summary[0], opacity, 0, None, 560)
        else:
            _beside(result, summary, opacity)
        explain_place.describe_place(result, summary, opacity)


def _beside(result: state.Result, summary: list[Attribution], opacity: float) -> None:
    values = service.alike(*summary)
    agree = ", ".join(f"{name_modality(name)} **{value:+.2f}**" for name, value in values.items())
    st.markdown(
        f"Rank correlation of the two maps: {agree.replace('-', '−') or 'not defined, one of them is flat'}. "
        ":small[1 = the same order of places, 0 = no relation. One case: no interval.]"
    )
    same = summary[0].method == summary[1].method and summary[0].unit == summary[1].unit
    ends: dict[str, float | None] = {"mri": None, "he": None}
    if same:  # the same colours mean the same values
        for name in ends:
            found = [service.limit(t.maps[name]) for t in summary if name in t.maps]
            ends[name] = max(found, default=None)
        sums = [abs(v).max() for t in summary if (v := service.patch_values(t)) is not None]
        ends["he"] = max((float(v) for v in sums), default=None)
    for number, (column, each) in enumerate(zip(st.columns(2), summary, strict=True)):
        with column:
            badges(each)
            _mri(result, each, opacity, number, ends["mri"], 460)
            _slide(result, each, opacity, number, ends["he"], 400)


def _mri(result: state.Result, summary: Attribution, opacity: float, number: int, end: float | None, tall: int) -> None:
    volume = result.case.inputs.get("mri")
    if not isinstance(volume, Volume):
        st.info(describe_absent("mri"), icon=":material/info:")
        return
    own = service.overlay(summary, opacity=opacity, end=end)
    layers = [own] if own is not None else []
    if own is None:
        st.info(f"{summary.label} draws no map on the {name_modality('mri')}.", icon=":material/info:")
    under = reading.overlays(result)
    with widgets.guarded("reading the known answer"):
        under += [*reading.truths(reading.ref(result), volume), *criteria.overlays(result, volume)]
    layers += [replace(each, shown=False) for each in under if summary.method != "gate" or each.name != "Gate"]
    click = mri.viewer(
        volume, layers, key=f"explain_mri_{result.case.id[:12]}_{number}", at_mm=reading.heart(result),
        site_mm=reading.site(result.case), link="explain", height_px=tall,
    )  # fmt: skip
    target = st.session_state.get("explain_target")
    regional = target in TARGETS and TARGETS[target].regional
    if explain_place.mark_voxel(result, click, number) and regional:
        st.rerun(scope="app")  # the region it may lie in is chosen outside this fragment


def _slide(
    result: state.Result, summary: Attribution, opacity: float, number: int, end: float | None, tall: int
) -> None:
    whole = result.case.inputs.get("he")
    if not isinstance(whole, Slide):
        st.info(describe_absent("he"), icon=":material/info:")
        return
    layer, present = service.patch_layer(summary, opacity=opacity, end=end), service.patches(summary, result)
    if layer is None or present is None:
        st.info(f"{summary.label} draws no map on the {name_modality('he')}.", icon=":material/info:")
    layers = [layer] if layer is not None and present is not None else []
    if present is not None:
        rest = [each for each in reading.layers(result) if len(each.values) == len(present.xy)]
        layers += [replace(each, shown=False) for each in rest]
    drawn: list[Outlines] = []
    with widgets.guarded("reading the criteria"):
        drawn = criteria.outlines(result, whole)
    click = slide.viewer(
        whole, layers, key=f"explain_slide_{result.case.id[:12]}_{number}", patches=present, outlines=drawn,
        link="explain", height_px=tall,
    )  # fmt: skip
    explain_place.mark_patch(result, click, present, number)
