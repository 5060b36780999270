"""A place the reader clicked on: what model and map say of it, and what the model would say without it."""

from __future__ import annotations

import streamlit as st

from cmssd_core.types import Attribution
from dashboard import state, widgets
from dashboard.parts.working import progress
from dashboard.services import explain as explaining
from dashboard.services import explain_place as service
from dashboard.services.explain_place import Place
from dashboard.viewers.layers import PatchClick, VolumeClick
from dashboard.views import attribution, frame

Voxel = tuple[int, int, int]


def _key(result: state.Result, what: str) -> str:
    return f"explain_{what}_{result.case.id[:12]}"


def marked(result: state.Result) -> Voxel | None:
    """The voxel (x, y, z) last clicked in this case."""
    return st.session_state.get(_key(result, "voxel"))


def marked_patch(result: state.Result) -> int | None:
    """The patch last clicked in this case, from 0."""
    return st.session_state.get(_key(result, "patch"))


def mark_voxel(result: state.Result, click: VolumeClick | None, viewer: int) -> bool:
    """Remembers a click on the MRI; whether it is a new one. viewer: which of the two that may stand there."""
    if click is None or click.value is None or not _is_new(result, f"voxel_{viewer}", click):
        return False
    st.session_state[_key(result, "voxel")] = click.voxel
    return True


def mark_patch(result: state.Result, click: PatchClick | None, viewer: int) -> None:
    """Remembers a click on the slide, as mark_voxel does."""
    if click is not None and click.patch is not None and _is_new(result, f"patch_{viewer}", click):
        st.session_state[_key(result, "patch")] = click.patch


def _is_new(result: state.Result, what: str, click: VolumeClick | PatchClick) -> bool:
    """Whether a viewer's click was not seen before: a viewer tells its last one again at every rerun."""
    key = _key(result, f"clicked_{what}")
    before = st.session_state.get(key)
    st.session_state[key] = click
    return before != click


def said(result: state.Result, told: list[Attribution], opacity: float) -> None:
    """What is said of the marked voxel and the marked patch, by the model and by each map."""
    voxel, number = marked(result), marked_patch(result)
    if voxel is None and number is None:
        st.markdown(":small[Click a place on the MRI or a patch on the slide to see what the model says of it.]")
        return
    left, right = st.columns(2)
    with left:
        if voxel is not None:
            for each in told:
                _table(service.voxel(result, each, voxel), each, len(told) > 1)
            _without(result, "voxel")
    with right:
        if number is not None:
            for each in told:
                _table(service.patch(result, each, number), each, len(told) > 1)
                _picture(result, each, number, opacity)
            _without(result, "patch")


def _table(place: Place, told: Attribution, several: bool) -> None:
    by = f" – {widgets.plain(told.label)}, {widgets.plain(told.model_id)}" if several else ""
    st.markdown(f"**{place.title}**{by}")
    st.table({"": [what for what, _ in place.said], "value": [value for _, value in place.said]}, hide_index=True)


def _picture(result: state.Result, told: Attribution, number: int, opacity: float) -> None:
    found = service.patch_picture(result, told, number)
    if found is None or told.method == "gate":
        return
    picture, values = found
    end = explaining.limit(told.maps["he"])
    figure = attribution.patch(
        picture, values, signed=told.signed, end=end, name=f"{told.label}, {told.unit} a pixel", opacity=opacity
    )
    st.plotly_chart(
        figure, key=f"{_key(result, 'picture')}_{told.method}_{told.model_id}", theme=None, config=frame.CONFIG,
        alt=f"Patch {number + 1} under {told.label}, values from {values.min():.2g} to {values.max():.2g}",
    )  # fmt: skip


def _without(result: state.Result, what: str) -> None:
    """What the model would say without the place: the same forward, with it taken away."""
    if st.button(f"What would the model say without this {what}?", key=_key(result, f"without_{what}")):
        with widgets.guarded("asking what if"), progress("Without it", f"without_{what}") as tell:
            for line in service.without(result, marked(result), marked_patch(result), what, tell):
                st.markdown(line)
