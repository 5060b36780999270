"""Pieces of the What-if page: what is changed, figures before and after, both pictures and their difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from cmssd_core.report.answers import EXPECTED, describe_answers
from cmssd_core.types import Case, Prediction, Slide, Volume
from cmssd_core.volume.contrasts import contrast_label
from cmssd_core.whatif.ask import Answer
from cmssd_core.whatif.change import Change, words
from cmssd_core.whatif.differences import Difference, differences, doubts, is_covered, map_change, map_difference
from dashboard import state, widgets
from dashboard.inputs import describe_absent
from dashboard.parts.what_if_controls import forget, of_case, region_drawn, remember, take_back
from dashboard.parts.working import progress
from dashboard.services import what_if as service
from dashboard.views import frame, mri, slide
from dashboard.views import what_if as views

MAPS = {"Tumour": "tumour", "Gate": "attention"}
_PICTURE = frame.CONFIG | {"modeBarButtonsToRemove": ["autoScale2d"]}


def find_answer(result: state.Result, change: Change, other: Case | None) -> Answer | None:
    """The answer to the change on screen, or None with the sentence that says why there is none."""
    with widgets.guarded("asking what if"):
        with progress("What if", "wib_ask", on_cancel=partial(take_back, result)) as tell:
            found = service.ask(result, change, tell, other=other)
        remember(result)
        return found
    return None


def show_differences(result: state.Result, answer: Answer) -> None:
    """What was changed, every figure before and after with its sign, and what the new ones are worth."""
    before, after = result.prediction, answer.prediction
    text = words(answer.change)
    if text:
        st.markdown("**Changed:** " + "; ".join(widgets.plain(each) for each in text) + ".")
    else:
        st.markdown("**Nothing is changed yet.** Take an input away, damage it, or draw on a picture.")
    answered = {line.title for each in (before, after) for line in describe_answers(each)}
    rows = [
        _row(each, result, answer)
        for each in (*differences(before, after), *_others(before, after))
        if each.before is not None or each.after is not None or each.name in answered
    ]
    masks = map_change(before, after) if text else None
    if masks is not None:
        alike = "both empty" if masks.dice is None else f"Dice of both {masks.dice:.3f}"
        rows.append(
            {"": "Tumour mask", "Original": "", "Changed": alike,
             "Difference": f"+{masks.gained_ml:.1f} mL, −{masks.lost_ml:.1f} mL"}
        )  # fmt: skip
    st.table({name: [row[name] for row in rows] for name in ("", "Original", "Changed", "Difference")}, hide_index=True)
    for sentence in doubts(answer.change, before, after):
        out = sentence.startswith("Out of")
        st.markdown(f":orange-badge[:material/warning: {'unlike' if out else 'doubt'}] {widgets.plain(sentence)}")
    st.markdown(
        f":small[Original: {widgets.plain(before.trained)}. "
        + ("" if before.gate_mean is None else "Gate: 1 = MRI, 0 = slide; how inputs were mixed, not evidence. ")
        + "Research use only.]"
    )
    widgets.unanswered(before)


def _others(before: Prediction, after: Prediction) -> list[Difference]:
    """Numbers beside malignancy and severity, such as a log hazard, before and after."""
    summary = {line.task: line.title for each in (before, after) for line in describe_answers(each)}
    pairs = {name: [p.answers[name].value if name in p.answers else None for p in (before, after)] for name in summary}
    return [
        Difference(name=summary[name], unit="", before=one, after=other)
        for name, (one, other) in pairs.items()
        if name not in EXPECTED
    ]


def _row(each: Difference, result: state.Result, answer: Answer) -> dict[str, str]:
    digits = 1 if each.unit else 3
    unit = f" {each.unit}" if each.unit else ""

    def sentence(value: float | None, p: Prediction, *, holds: bool) -> str:
        if value is None:
            return "–"
        text = f"{value:.{digits}f}{unit}"
        if each.name != "Severity" or p.severity_interval is None:
            return text
        low, high = p.severity_interval
        return f"{text} ({low:.1f} to {high:.1f}{'' if holds else ', not covered'})"

    return {
        "": each.name,
        "Original": sentence(each.before, result.prediction, holds=True),
        "Changed": sentence(each.after, answer.prediction, holds=is_covered(answer.change, answer.prediction)),
        "Difference": _signed(each.by, digits, " points" if each.unit == "%" else unit),
    }


def _signed(by: float | None, digits: int, unit: str) -> str:
    """A difference with its sign; one too small for the digits is still no nought."""
    if by is None:
        return "–"
    text = "0" if by == 0 else f"{by:+.{digits}f}" if abs(by) >= 0.5 * 10**-digits else f"{by:+.1g}"
    return f"{text}{unit if by else ''}".replace("-", "−")


@st.fragment
def pictures(result: state.Result, answer: Answer, other: Case | None) -> None:
    """The original pinned beside the changed case, the difference of their maps, and the slide's patches."""
    own, made = result.case.inputs.get("mri"), answer.case.inputs.get("mri")
    difference = None
    if not isinstance(own, Volume):
        st.info(f"{describe_absent('mri')} There is no map to compare.", icon=":material/info:")
    elif not _maps_of(result.prediction):
        st.info("This model draws no map on the MRI to compare.", icon=":material/info:")
    else:
        difference = _scans(result, answer, own, made if isinstance(made, Volume) else None)
    left, right = st.columns(2)
    if difference is not None:
        with left:
            difference()
    shown = result.case.inputs.get("he")
    if isinstance(shown, Slide) and "he" in service.reads():
        with left if difference is None else right:
            _own_slide(result, answer, shown, other)
        _other_patches(result, answer, other)


def _maps_of(prediction: Prediction) -> list[str]:
    return [name for name, each in MAPS.items() if each in prediction.maps]


def _scans(result: state.Result, answer: Answer, own: Volume, made: Volume | None) -> Callable[[], None] | None:
    """Original and changed; gives what draws their difference, None where there is none."""
    before, after, key = result.prediction, answer.prediction, of_case(result)
    drawn = region_drawn(result)
    first, second, third = st.columns([3, 2, 2])
    count, start = mri.count_slices(own), drawn.slice_index if drawn is not None else mri.first_slice(own, before)
    index = 0
    if count > 1:
        index = first.slider("Slice", 1, count, start + 1, key=f"wiv_{key}_slice") - 1
    names = [name for name in own.contrasts if made is None or name in made.contrasts]
    contrast = second.selectbox("Contrast shown", names, format_func=contrast_label, key=f"wiv_{key}_contrast")
    maps = _maps_of(before)
    chosen = third.segmented_control("Map", maps, default=maps[0], key=f"wiv_{key}_map", required=True)
    field = MAPS[chosen]
    draw = mri.tumour_slice if field == "tumour" else mri.gate_slice
    left, right = st.columns(2)
    with left:
        st.markdown("#### Original")
        figure = draw(own, before, index=index, contrast=contrast, opacity=0.4, tall_px=420)
        corners = drawn.corners_mm if drawn is not None and abs(drawn.slice_index - index) <= drawn.reach else ()
        widget = f"wiv_{key}_draw_{index}_{st.session_state.get(f'wiv_{key}_turn', 0)}"
        event = st.plotly_chart(
            views.drawable(figure, corners), key=widget, theme=None, config=_PICTURE, on_select="rerun",
            selection_mode=("box", "lasso"), alt=mri.tumour_alt(own, before, index=index, contrast=contrast),
        )  # fmt: skip
        _take_region(result, event, index)
        st.markdown(":small[Draw a box, or a closed line (lasso), to erase that region of the MRI.]")
    with right:
        st.markdown("#### Changed")
        if made is None or field not in after.maps:
            st.info("Without an MRI there is no map.", icon=":material/info:")
        else:
            st.plotly_chart(
                draw(made, after, index=index, contrast=contrast, opacity=0.4, tall_px=420),
                key=f"wiv_{key}_after", theme=None, config=frame.CONFIG,
                alt="Changed: " + mri.tumour_alt(made, after, index=index, contrast=contrast),
            )  # fmt: skip
            st.markdown(f":small[{mri.describe_lines(after)}]")
    delta = map_difference(before, after, field)
    if delta is None or made is None or not answer.change:
        return None
    return partial(_difference, made, delta, index, contrast, chosen, key)


def _difference(volume: Volume, delta: Any, index: int, contrast: str, chosen: str, key: str) -> None:
    name = "tumour probability" if chosen == "Tumour" else "gate"
    st.markdown("#### Difference")
    st.plotly_chart(
        views.difference_slice(volume, delta, index=index, contrast=contrast, opacity=0.8, name=name),
        key=f"wiv_{key}_difference", theme=None, config=frame.CONFIG,
        alt=views.difference_alt(delta, volume, index=index, name=name),
    )  # fmt: skip
    st.markdown(
        f":small[Red: more after the change. Blue: less. Colours run to {views.limit_of(delta):.2f} both ways on every "
        f"slice; below {views.HIDDEN_BELOW:g} nothing is drawn.]"
    )


def _take_region(result: state.Result, event: Any, index: int) -> None:
    """Remembers a newly drawn region and asks anew."""
    chosen = event.selection
    corners: tuple[tuple[float, float], ...] = ()
    if chosen.get("lasso"):
        line = chosen["lasso"][-1]
        corners = tuple((round(float(x), 2), round(float(y), 2)) for x, y in zip(line["x"], line["y"], strict=True))
    elif chosen.get("box"):
        (x0, x1), (y0, y1) = (sorted(round(float(v), 2) for v in chosen["box"][-1][axis]) for axis in "xy")
        corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    key = f"wi_{of_case(result)}_region"
    if len(set(corners)) >= 3 and st.session_state.get(key) != (index, corners):
        st.session_state[key] = (index, corners)
        st.rerun()


def _own_slide(result: state.Result, answer: Answer, own: Slide, other: Case | None) -> None:
    key = of_case(result)
    st.markdown("#### The slide's patches")
    picture, per_px = service.thumbnail(own, result.case.id)
    figure = slide.patch_grid(picture, per_px, own.mpp, result.prediction, opacity=0.4, tall_px=420)
    for number in answer.change.patches_off:
        figure.layout.shapes[number].update(fillcolor="rgba(15,17,21,0.85)", line={"color": "#7a8594"})
    if other is not None or "he" in answer.change.off:
        st.plotly_chart(figure, key=f"wiv_{key}_slide_still", theme=None, config=frame.CONFIG, alt="The own slide")
        st.markdown(":small[The own slide, which the model does not read now.]")
        return
    figure.update_layout(dragmode="select")
    widget = f"wiv_{key}_patches_{st.session_state.get(f'wiv_{key}_turn', 0)}"
    event = st.plotly_chart(
        figure, key=widget, theme=None, config=_PICTURE, on_select="rerun", selection_mode=("box", "lasso"),
        alt=slide.slide_alt(result.prediction),
    )  # fmt: skip
    taken = tuple(sorted({int(point["point_index"]) for point in event.selection.points}))
    if taken and taken != st.session_state.get(f"wi_{key}_patches"):
        st.session_state[f"wi_{key}_patches"] = taken
        st.rerun()
    st.markdown(":small[Draw a box or a closed line over patches to take them away.]")


def _other_patches(result: state.Result, answer: Answer, other: Case | None) -> None:
    """The other patient's slide, and patches under damage as the model reads them."""
    key, after, swapped = of_case(result), answer.prediction, answer.case.inputs.get("he")
    left, right = st.columns(2)
    if isinstance(swapped, Slide) and answer.change.slide_of is not None:
        with left:
            st.markdown("#### The other patient's slide")
            picture, per_px = service.thumbnail(swapped, answer.change.slide_of)
            st.plotly_chart(
                slide.patch_grid(picture, per_px, swapped.mpp, after, opacity=0.4, tall_px=420),
                key=f"wiv_{key}_swapped", theme=None, config=frame.CONFIG, alt="Changed: " + slide.slide_alt(after),
            )  # fmt: skip
    if not answer.change.on("he"):
        return
    undamaged = replace(answer.change, damages=())
    for column, title, change in ((left, "undamaged", undamaged), (right, "damaged", answer.change)):
        bag = service.patches(result, change, other=other)
        if bag is not None:
            column.markdown(f"#### Patches as the model reads them, {title}")
            column.image(views.montage(bag.patches), caption=f"the first {min(views.SHOWN, len(bag.patches))}")


def reset(result: state.Result) -> None:
    """Back to the original."""
    st.button("Back to the original", key="wib_reset", on_click=forget, args=(result,), icon=":material/restart_alt:",
              width="stretch")  # fmt: skip
