"""A place the reader clicked on: what model and map say of it, and what the model would say without it."""

from __future__ import annotations

import streamlit as st

from cmssd_core.types import Attribution
from dashboard import state, widgets
from dashboard.parts.working import progress
from dashboard.services import explain as explaining
from dashboard.services import explain_place as service
from dashboard.services.explain_place import Place
from dashboard.viewers.layers import PatchClick, Patches, VolumeClick
from dashboard.views import attribution, frame

Voxel = tuple[int, int, int]
Corner = tuple[int, int]


def _key(result: state.Result, what: str) -> str:
    return f"explain_{what}_{result.case.id[:12]}"


def get_marked(result: state.Result) -> Voxel | None:
    """The voxel (x, y, z) last clicked in this case."""
    return st.session_state.get(_key(result, "voxel"))


def marked_patch(result: state.Result) -> Corner | None:
    """The patch last clicked in this case, by its top-left corner in level-0 px."""
    return st.session_state.get(_key(result, "patch"))


def mark_voxel(result: state.Result, click: VolumeClick | None, viewer: int) -> bool:
    """Remembers a click on the MRI; whether it is a new one. viewer: which of the two that may stand there."""
    if click is None or click.value is None or not _is_new(result, f"voxel_{viewer}", click):
        return False
    st.session_state[_key(result, "voxel")] = click.voxel
    return True


def mark_patch(result: state.Result, click: PatchClick | None, patches: Patches | None, viewer: int) -> None:
    """Remembers a click on the slide, as mark_voxel does."""
    if click is None or click.patch is None or patches is None or not _is_new(result, f"patch_{viewer}", click):
        return
    x, y = patches.xy[click.patch]
    st.session_state[_key(result, "patch")] = (int(x), int(y))


def _is_new(result: state.Result, what: str, click: VolumeClick | PatchClick) -> bool:
    """Whether a viewer's click was not seen before: a viewer tells its last one again at every rerun."""
    key = _key(result, f"clicked_{what}")
    before = st.session_state.get(key)
    st.session_state[key] = click
    return before != click


def describe_place(result: state.Result, summary: list[Attribution], opacity: float) -> None:
    """What is said of the marked voxel and the marked patch, by the model and by each map."""
    voxel, corner = get_marked(result), marked_patch(result)
    if voxel is None and corner is None:
        st.markdown(":small[Click a place on the MRI or a patch on the slide to see what the model says of it.]")
        return
    own = [each for each in summary if service.is_of_model(result, each)]
    left, right = st.columns(2)
    with left:
        if voxel is not None:
            for each in summary:
                _table(service.voxel(result, each, voxel), each, len(summary) > 1)
            if own:
                _without(result, "voxel")
    with right:
        if corner is not None:
            for each in summary:
                _table(service.patch(result, each, corner), each, len(summary) > 1)
                _picture(result, each, corner, opacity)
            if own and service.number(result.prediction.patch_xy, corner) is not None:
                _without(result, "patch")


def _table(place: Place | None, summary: Attribution, several: bool) -> None:
    if place is None or not place.said:
        return
    by = f" – {widgets.plain(summary.label)}, {widgets.plain(summary.model_id)}" if several else ""
    st.markdown(f"**{place.title}**{by}")
    st.table({"": [what for what, _ in place.said], "value": [value for _, value in place.said]}, hide_index=True)


def _picture(result: state.Result, summary: Attribution, corner: Corner, opacity: float) -> None:
    found = service.patch_picture(result, summary, corner)
    if found is None or summary.method == "gate":
        return
    picture, values = found
    end = explaining.limit(summary.maps["he"])
    figure = attribution.patch(
        picture,
        values,
        signed=summary.signed,
        end=end,
        name=f"{summary.label}, {summary.unit} a pixel",
        opacity=opacity,
    )
    st.plotly_chart(
        figure, key=f"{_key(result, 'picture')}_{summary.method}_{summary.model_id}", theme=None, config=frame.CONFIG,
        alt=f"The marked patch under {summary.label}, values from {values.min():.2g} to {values.max():.2g}",
    )  # fmt: skip


def _without(result: state.Result, what: str) -> None:
    """What the model would say without the place: the same forward, with it taken away."""
    if st.button(f"What would the model say without this {what}?", key=_key(result, f"without_{what}")):
        with widgets.guarded("asking what if"), progress("Without it", f"without_{what}") as tell:
            for line in service.without(result, get_marked(result), marked_patch(result), what, tell):
                st.markdown(line)
