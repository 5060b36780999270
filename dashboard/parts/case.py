"""Pieces of the Case page: who it is, both viewers and the areas linked, annotations, and the pinned case beside it."""

from __future__ import annotations

import json
from pathlib import Path

import streamlit as st

from cmssd_core.slide.geojson import patches_geojson
from cmssd_core.types import Slide, Volume
from cmssd_core.volume.contrasts import contrast_label
from dashboard import rights, selection, state, widgets
from dashboard.cards import make_cards
from dashboard.inputs import describe_absent, describe_undrawn, name_modality
from dashboard.services import case as cases
from dashboard.services import cohort as cohorts
from dashboard.services import criteria, reading
from dashboard.viewers import mri, slide
from dashboard.viewers.layers import Outlines, Patches, PatchLayer, Point
from dashboard.views import areas, frame

#: A longer list is no help in a box of choices; the Cohort page finds cases.
LISTED = 2000
_OUTLINES = "cmssd_outlines"


def chooser(cohort: Path | None) -> None:
    """Which case is read: a row of the open cohort, or what was uploaded on Analyse."""
    current = selection.current()
    if cohort is None:
        st.info("No cohort is open. Upload a case on **Analyse**, or open a cohort.", icon=":material/info:")
        return
    ids = [str(name) for name in cohorts.table(cohort)["case_id"]]
    if len(ids) > LISTED:
        st.markdown(f":small[{len(ids):,} cases: choose one on **Cohort**.]")
        return
    here = current.case_id if current is not None and current.cohort == cohort else None
    uploaded = current is not None and current.cohort is None
    picked = st.selectbox(
        "Case", ids, index=ids.index(here) if here in ids else None, key=f"case_choice_{here}_{uploaded}",
        placeholder="an uploaded case is shown; choose another" if uploaded else "choose a case to read",
        label_visibility="collapsed",
    )  # fmt: skip
    if picked is not None and picked != here:
        selection.set_current(selection.CaseRef(cohort, picked))
        st.rerun()


def find_result() -> state.Result | None:
    """The result of the current case, analysed now where the last result is of another one; None = none is chosen."""
    current, result = selection.current(), state.result()
    if current is None:
        return None
    if result is not None and reading.ref(result) == current:
        return result
    if current.cohort is None:
        return None
    read = _read(current)
    if read is not None:
        state.set_result(read)
    return read


def _read(of: selection.CaseRef) -> state.Result | None:
    with widgets.guarded("reading the case"):
        bar = st.progress(0.0, "starting")
        read = reading.read(of, lambda share, what: bar.progress(min(max(share, 0.0), 1.0), what))
        bar.empty()
        return read
    return None


def head(result: state.Result) -> None:
    """Who it is, in one line: what the cohort says, and nothing where it says nothing."""
    of = reading.ref(result)
    words = " · ".join(f"{label} **{widgets.plain(value)}**" for label, value in reading.facts(of).items())
    name = "uploaded case" if of.cohort is None else widgets.plain(of.case_id)
    missing = [label for label in ("age", "body part", "growth plate", "laterality") if label not in reading.facts(of)]
    unknown = f" :gray[· not given: {', '.join(missing)}]" if missing else ""
    st.markdown(f"**{name}** · {words or 'nothing is known of the patient'}{unknown}")
    undrawn = describe_undrawn(result.case)
    unread = " and ".join(f"the {name_modality(name)}" for name in reading.unread(result))
    if undrawn is not None:
        st.markdown(f":small[{undrawn}]")
    if unread:
        st.markdown(f":small[The model in use does not read {unread} of this case.]")


def figures(result: state.Result) -> None:
    """What the model answers, each with its doubt, in as little height as it can be read in; and what it does not."""
    p = result.prediction
    made = make_cards(p)
    for column, card in zip(st.columns(max(4, len(made))), made, strict=False):
        with column.container(border=True, height="stretch", gap="xxsmall"):
            st.markdown(f":small[{card.title}]")
            st.markdown(f"### {card.value}")
            st.markdown(f":small[{card.doubt}]")
    widgets.unanswered(p)
    summary = (
        f"Case {result.case.id[:12]}, read by {widgets.plain(p.model_id)}, "
        f"which learned from {widgets.plain(p.trained)}."
    )
    st.markdown(f":small[:gray[{summary}]]")


@st.fragment
def viewers(
    result: state.Result, *, beside: state.Result | None = None, key: str = "case", height_px: int = 500
) -> None:
    """MRI and slide side by side, and the areas of the slices; one moves the other.

    beside: the case this one is compared with: both get the same colour scales.
    """
    volume, shown = result.case.inputs.get("mri"), result.case.inputs.get("he")
    name = f"{key}_{result.case.id[:12]}"
    with widgets.guarded("drawing the viewers"):
        left, right = st.columns(2)
        with left:
            st.markdown(f"#### {name_modality('mri')}")
            if isinstance(volume, Volume):
                _mri(result, volume, name, height_px)
            else:
                st.info(describe_absent("mri", result.prediction), icon=":material/info:")
            if reading.ref(result).cohort is not None:
                st.toggle(
                    "Show the known answer of the cohort", key=f"truth_{name}", help="Masks and criteria, on both."
                )
            st.markdown("#### Quality of the inputs")
            widgets.findings(result.prediction.quality)
        with right:
            st.markdown(f"#### {name_modality('he')}")
            if isinstance(shown, Slide):
                _slide(result, shown, name, height_px, beside)
            else:
                st.info(describe_absent("he"), icon=":material/info:")
            if isinstance(volume, Volume) and result.prediction.slices:
                _areas(result, name)


def _mri(result: state.Result, volume: Volume, name: str, height_px: int) -> None:
    layers = reading.overlays(result)
    if st.session_state.get(f"truth_{name}"):
        with widgets.guarded("reading the known answer"):
            layers += [*reading.truths(reading.ref(result), volume), *criteria.overlays(result, volume)]
    at = _aim(result, volume, name)
    click = mri.viewer(
        volume, layers, key=f"mri_{name}", at_mm=at, site_mm=reading.site(result.case), link=name, height_px=height_px
    )
    if click is not None and click != st.session_state.get(f"clicked_{name}"):
        st.session_state[f"clicked_{name}"] = click
        st.session_state[f"slice_{name}"] = reading.slice_of(volume, click.voxel)
    if click is not None:
        unit = "" if click.value is None else f": {click.value:.4g}"
        mm = ", ".join(f"{value:.1f}" for value in click.mm)
        st.markdown(
            f":small[Marked: voxel {', '.join(map(str, click.voxel))} (x, y, z), RAS+ {mm} mm, "
            f"{contrast_label(click.contrast)}{unit}]"
        )


def _aim(result: state.Result, volume: Volume, name: str) -> Point | None:
    """Where the crosshair is sent: to the slice whose bar was clicked last, at first to the middle of the tumour.

    Said once a click: a later click in the MRI must not be undone by the next rerun.
    """
    points = (st.session_state.get(f"areas_{name}") or {}).get("selection", {}).get("points", [])
    chosen = int(points[0]["x"]) - 1 if points else None
    known: tuple[int | None, Point | None] = st.session_state.get(f"aim_{name}", (None, reading.heart(result)))
    if chosen is not None and chosen != known[0]:
        clicked: mri.VolumeClick | None = st.session_state.get(f"clicked_{name}")
        near = clicked.mm if clicked is not None else known[1]
        known = (chosen, reading.slice_mm(volume, chosen, near))
        st.session_state[f"slice_{name}"] = chosen
    elif chosen is None:
        known = (None, known[1])
    st.session_state[f"aim_{name}"] = known
    return known[1]


def _areas(result: state.Result, name: str) -> None:
    index = st.session_state.get(f"slice_{name}")
    st.markdown("#### Area of each slice")
    st.plotly_chart(
        areas.slice_areas(result.prediction, index=index, tall_px=250),
        key=f"areas_{name}", alt=areas.areas_alt(result.prediction), on_select="rerun", selection_mode="points",
        config=frame.CONFIG | {"scrollZoom": False},
    )  # fmt: skip
    st.markdown(":small[Click a bar to move the crosshair to its slice.]")


def _slide(result: state.Result, shown: Slide, name: str, height_px: int, beside: state.Result | None) -> None:
    alone = None
    if st.session_state.get(f"alone_{name}"):
        with widgets.guarded("asking the model about each patch"):
            alone = reading.alone(result)
            if alone is None:
                st.info("This model gives no probability of malignancy from a patch by itself.")
    patches, layers = reading.patches(result), reading.layers(result, beside=beside, alone=alone)
    picture = st.container()
    if patches is not None and reading.asks_patches():
        st.toggle(
            "What each patch says by itself", key=f"alone_{name}",
            help="Two more layers: the probability of malignancy from one patch alone, and how unsure that is.",
        )  # fmt: skip
    drawn = _exchange(result, shown, name, patches, layers)  # first: what comes in is drawn at once
    if st.session_state.get(f"truth_{name}"):
        with widgets.guarded("reading the criteria"):
            drawn += criteria.outlines(result, shown)
    with picture:
        click = slide.viewer(
            shown, layers, key=f"slide_{name}", patches=patches, outlines=drawn, stain=reading.stain(result),
            link=name, height_px=height_px,
        )  # fmt: skip
        if result.case.inputs.get("mri") is not None and reading.site(result.case) is None:
            st.markdown("**Unregistered**: the biopsy site is not known, so the slide has no place on the MRI.")
        if click is not None and click.patch is not None:
            mm = None if click.mm is None else ", ".join(f"{v:.1f}" for v in click.mm)
            where = "no place on the MRI" if mm is None else f"RAS+ {mm} mm"
            values = "".join(f", {layer.name.lower()} {layer.values[click.patch]:.4g}" for layer in layers)
            st.markdown(f":small[Chosen: patch {click.patch + 1}{values}, {where}]")


def _exchange(
    result: state.Result, shown: Slide, name: str, patches: Patches | None, layers: list[PatchLayer]
) -> list[Outlines]:
    """QuPath GeoJSON out and in; gives the annotations that came in."""
    left, right = st.columns([1, 1])
    if patches is not None and rights.session_may("export"):
        summary = patches_geojson(patches.xy, patches.size_px, {layer.name: layer.values for layer in layers})
        left.download_button(
            "Patches for QuPath", json.dumps(summary), f"cmssd_{result.case.id[:12]}_patches.geojson",
            "application/geo+json", key=f"geojson_{name}", icon=":material/download:", on_click="ignore",
            width="stretch", help="GeoJSON: each patch as a tile with its values as measurements.",
        )  # fmt: skip
    kept: dict[str, Outlines] = st.session_state.setdefault(_OUTLINES, {})
    with right.popover("Annotations from QuPath", icon=":material/upload:", width="stretch"):
        given = st.file_uploader(
            "GeoJSON of this slide", type=["geojson", "json"], key=f"outlines_{name}", on_change=_forget, args=(name,)
        )
        if given is not None and name not in kept:
            with widgets.guarded("reading the annotations"):
                read = cases.read_outlines(given, shown.level_sizes[0])
                kept[name] = Outlines(name="Annotations", geojson=read)
        elif given is None and name in kept:
            st.markdown("Kept from before.")
            st.button("Remove", key=f"remove_{name}", on_click=_forget, args=(name,))
    return [kept[name]] if name in kept else []


def _forget(name: str) -> None:
    st.session_state.get(_OUTLINES, {}).pop(name, None)


def pin(result: state.Result) -> None:
    """Pins this case beside the next one, or lets go of the pinned one."""
    of, pinned = reading.ref(result), selection.get_pinned()
    if pinned == of:
        if st.button("Unpin", key="unpin", icon=":material/keep_off:", width="stretch"):
            selection.set_pinned(None)
            state.set_pinned_result(None)
            st.rerun()
    elif st.button(
        "Pin for comparison", key="pin", icon=":material/keep:", width="stretch", help="Then choose a second case."
    ):
        selection.set_pinned(of)
        state.set_pinned_result(result)
        st.rerun()


def find_compared(result: state.Result) -> state.Result | None:
    """The pinned case's result, read now where it was pinned elsewhere; None where none is pinned beside this one."""
    pinned, other = selection.get_pinned(), state.pinned_result()
    if pinned is None or pinned == reading.ref(result):
        return None
    if (other is None or reading.ref(other) != pinned) and pinned.cohort is not None:
        other = _read(pinned)
        state.set_pinned_result(other)
    return other


def comparison(result: state.Result, other: state.Result) -> None:
    """The pinned case under the current one: the same figures, the same viewers, the same colour scales."""
    st.subheader("Compared with the pinned case")
    if other.prediction.model_id != result.prediction.model_id:
        st.warning("The two were read by different models: their figures are not comparable.")
    left, right = st.columns([4, 1], vertical_alignment="center")
    with left:
        head(other)
    with right:
        pin(other)
    figures(other)
    viewers(other, beside=result, key="pinned", height_px=420)
