"""The What-if page's controls: from switches, sliders and what was drawn to one Change, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from cmssd_core.corruptions.table import CORRUPTIONS, LEVELS
from cmssd_core.types import Case, Slide, Volume
from cmssd_core.volume.contrasts import contrast_label
from cmssd_core.whatif.change import FILLS, Change, Damage, Region
from dashboard import state, widgets
from dashboard.inputs import name_modality
from dashboard.selection import CaseRef
from dashboard.services import reading
from dashboard.services import what_if as service

#: The artefacts one meets first; all others of the table stand behind "More".
FIRST = {"he": ("fold", "tear", "stain", "defocus"), "mri": ("bias", "noise", "motion")}
_SETTINGS = "cmssd_what_if"  # case -> control -> its last setting that was answered


def of_case(result: state.Result) -> str:
    """The part of every control's key that names its case."""
    return result.case.id[:12]


def remember(result: state.Result) -> None:
    """Keeps the controls as they are: they were answered, so a cancelled question goes back to them."""
    prefix = f"wi_{of_case(result)}_"
    kept = {str(k): v for k, v in st.session_state.items() if str(k).startswith(prefix)}
    st.session_state.setdefault(_SETTINGS, {})[of_case(result)] = kept


def take_back(result: state.Result) -> None:
    """Sets the controls as they were when last answered."""
    _clear(result)
    st.session_state.update(st.session_state.get(_SETTINGS, {}).get(of_case(result), {}))


def forget(result: state.Result) -> None:
    """Sets the controls back to the original case."""
    _clear(result)
    st.session_state.get(_SETTINGS, {}).pop(of_case(result), None)


def _clear(result: state.Result) -> None:
    prefix = f"wi_{of_case(result)}_"
    for key in [k for k in st.session_state if str(k).startswith(prefix)]:
        del st.session_state[key]
    st.session_state[f"wiv_{of_case(result)}_turn"] = st.session_state.get(f"wiv_{of_case(result)}_turn", 0) + 1


def region_drawn(result: state.Result) -> Region | None:
    """The region drawn on the original, None where there is none."""
    key = f"wi_{of_case(result)}_"
    drawn = st.session_state.get(f"{key}region")
    if drawn is None:
        return None
    index, corners = drawn
    return Region(
        slice_index=index,
        corners_mm=corners,
        reach=int(st.session_state.get(f"{key}reach", 0)),
        fill=st.session_state.get(f"{key}fill", "surroundings"),
    )


def controls(result: state.Result, cohort: Path | None) -> tuple[Change, Case | None]:
    """What is to be changed, and the other patient's case where its slide stands in."""
    # A visit to another page drops widgets; what was answered last comes back.
    for name, value in st.session_state.get(_SETTINGS, {}).get(of_case(result), {}).items():
        st.session_state.setdefault(name, value)
    read = service.reads()
    volume, slide = (result.case.inputs.get(name) if name in read else None for name in ("mri", "he"))
    off, contrasts_off = _inputs(result, volume, slide)
    damages: list[Damage] = []
    if isinstance(slide, Slide) and "he" not in off:
        damages += _damages(result, "he")
    if isinstance(volume, Volume) and "mri" not in off:
        damages += _damages(result, "mri")
    seed = 1
    if damages:
        seed = int(_widget(st.number_input, result, "Draw", "seed", 1, min_value=1, max_value=999, step=1,
                           help="Where folds, holes and noise fall; another number draws them anew."))  # fmt: skip
    erased = _erase(result) if isinstance(volume, Volume) and "mri" not in off else None
    patches_off: tuple[int, ...] = ()
    other = None
    site = None
    if isinstance(slide, Slide) and "he" not in off:
        other = _swap(result, cohort)
        patches_off = _patches(result) if other is None else ()
        if isinstance(volume, Volume) and "mri" not in off:
            site = _site(result, volume, slide)
    change = Change(
        off=off, contrasts_off=contrasts_off, patches_off=patches_off, damages=tuple(damages), seed=seed, erased=erased,
        site_mm=site, slide_of=None if other is None else other.id,
    )  # fmt: skip
    return change, other


def _widget(kind: Any, result: state.Result, label: str, name: str, start: Any, **more: Any) -> Any:
    """A widget whose first setting comes from the session, so that it can be set back."""
    key = f"wi_{of_case(result)}_{name}"
    st.session_state.setdefault(key, start)
    return kind(label, key=key, **more)


def _inputs(result: state.Result, volume: object, slide: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    st.markdown("#### Inputs")
    off, contrasts_off = [], ()
    if isinstance(volume, Volume):
        if not _switch(result, "mri"):
            off.append("mri")
        elif len(volume.contrasts) > 1:
            names = list(volume.contrasts)
            kept = _widget(st.pills, result, "Contrasts", "contrasts", names, options=names, selection_mode="multi",
                           format_func=contrast_label)  # fmt: skip
            contrasts_off = tuple(name for name in names if name not in kept)
    off += [
        name for name in service.reads()
        if name != "mri" and name in result.case.inputs and not _switch(result, name)
    ]  # fmt: skip
    unread = [name_modality(name) for name in result.case.inputs if name not in service.reads()]
    if unread:
        st.markdown(f":small[The model in use does not read the {' and the '.join(unread)} of this case.]")
    return tuple(off), contrasts_off


def _switch(result: state.Result, name: str) -> bool:
    """Whether an input stays; it cannot be taken away where the model does not answer from what is left."""
    must = not service.may_miss(result.case, name)
    return bool(_widget(st.toggle, result, name_modality(name), name, True, disabled=must))


def _damages(result: state.Result, modality: str) -> list[Damage]:
    st.markdown(f"#### Damage the {name_modality(modality)}")
    found = [_damage(result, name) for name in FIRST[modality]]
    more = [n for n, c in CORRUPTIONS.items() if c.modality == modality and n not in FIRST[modality]]
    with st.expander("More artefacts"):
        found += [_damage(result, name) for name in more]
    return [damage for damage in found if damage.level > 0]


def _damage(result: state.Result, name: str) -> Damage:
    meaning = CORRUPTIONS[name].meaning
    level = _widget(st.slider, result, meaning[:1].upper() + meaning[1:], f"level_{name}", 0.0, min_value=0.0,
                    max_value=float(LEVELS[-1]), step=0.5)  # fmt: skip
    return Damage(name=name, level=float(level))


def _erase(result: state.Result) -> Region | None:
    st.markdown("#### Erase a region of the MRI")
    key = f"wi_{of_case(result)}_region"
    if st.session_state.get(key) is None:
        st.markdown(":small[Draw a box or a closed line on the picture of the original.]")
        return None
    st.markdown(f":small[A region of slice {st.session_state[key][0] + 1} is erased.]")
    _widget(st.selectbox, result, "Filled with", "fill", "surroundings", options=list(FILLS),
            format_func=lambda name: FILLS[name])  # fmt: skip
    _widget(st.number_input, result, "Slices to either side", "reach", 0, min_value=0, max_value=64, step=1)
    st.button("Put the region back", key="wib_region", on_click=_drop, args=(result, "region"), width="stretch")
    return region_drawn(result)


def _patches(result: state.Result) -> tuple[int, ...]:
    taken: tuple[int, ...] = st.session_state.get(f"wi_{of_case(result)}_patches") or ()
    if taken:
        st.markdown("#### Patches")
        st.markdown(f":small[{len(taken)} taken away: number {', '.join(str(n + 1) for n in taken[:12])}"
                    f"{' …' if len(taken) > 12 else ''}]")  # fmt: skip
        st.button("Put the patches back", key="wib_patches", on_click=_drop, args=(result, "patches"), width="stretch")
    return taken


def _drop(result: state.Result, name: str) -> None:
    st.session_state.pop(f"wi_{of_case(result)}_{name}", None)
    st.session_state.get(_SETTINGS, {}).get(of_case(result), {}).pop(f"wi_{of_case(result)}_{name}", None)
    turn = f"wiv_{of_case(result)}_turn"
    st.session_state[turn] = st.session_state.get(turn, 0) + 1


def _swap(result: state.Result, cohort: Path | None) -> Case | None:
    names = service.donors(cohort, but=reading.ref(result))
    if not names:
        return None
    st.markdown("#### Another patient's slide")
    chosen = _widget(
        st.selectbox, result, "Slide of", "donor", None, options=names, index=None, placeholder="the own slide"
    )
    if chosen is None or cohort is None:
        return None
    with widgets.guarded("reading the other patient's slide"):
        return service.donor(CaseRef(cohort, chosen))
    return None


def _site(result: state.Result, volume: Volume, slide: Slide) -> tuple[float, float, float] | None:
    st.markdown("#### Biopsy site")
    if not _widget(st.toggle, result, "Move it", "move", False):
        return None
    z, y, x = volume.voxels.shape[1:]
    middle = volume.affine @ [(x - 1) / 2, (y - 1) / 2, (z - 1) / 2, 1.0]
    start = slide.site_mm or tuple(float(v) for v in middle[:3])
    drawn = region_drawn(result)
    if drawn is not None:
        st.button("To the middle of the drawn region", key="wib_site", on_click=_site_to_region, width="stretch",
                  args=(result, volume, drawn), help="The region is put back: it was drawn for the site.")  # fmt: skip
    x_mm, y_mm, z_mm = (
        float(_widget(st.number_input, result, f"{axis}, mm (RAS+)", f"site_{axis}", round(start[n], 1), step=1.0,
                      format="%.1f"))
        for n, axis in enumerate("xyz")
    )  # fmt: skip
    return x_mm, y_mm, z_mm


def _site_to_region(result: state.Result, volume: Volume, region: Region) -> None:
    for axis, value in zip("xyz", service.middle_mm(volume, region), strict=True):
        st.session_state[f"wi_{of_case(result)}_site_{axis}"] = round(value, 1)
    _drop(result, "region")
