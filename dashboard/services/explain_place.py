"""A place of a case for the screen: what model and map say of a voxel or a patch, and the answer without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import streamlit as st

from cmssd_core.report.answers import describe_answers
from cmssd_core.types import Attribution, FloatArray, Slide, Uint8Array, Volume
from dashboard import state
from dashboard.services import reading
from dashboard.services.explain import patch_values
from dashboard.services.model import Progress

if TYPE_CHECKING:
    from cmssd_core.whatif.change import Region

BOX_MM = 8.0  # half the edge of what is filled around a voxel


@dataclass(frozen=True)
class Place:
    """What the model and a map say of one voxel or patch: (what, value) in words, the first the most important."""

    title: str
    said: tuple[tuple[str, str], ...]


def is_of_model(result: state.Result, summary: Attribution) -> bool:
    """Whether a map is of the model whose answer the case bears: of another one only the map itself is known."""
    return summary.model_id == result.prediction.model_id


def number(xy: npt.NDArray[np.int64] | None, corner: tuple[int, int]) -> int | None:
    """Which patch, from 0, has this top-left corner in level-0 px; None = none: another model may cut otherwise."""
    found = [] if xy is None else np.flatnonzero((xy == corner).all(axis=1))
    return int(found[0]) if len(found) else None


def voxel(result: state.Result, summary: Attribution, at: tuple[int, int, int]) -> Place:
    """What is said of a voxel (x, y, z)."""
    x, y, z = at
    maps, text = result.prediction.maps if is_of_model(result, summary) else {}, []
    for name, words in (("tumour", "probability of malignant tumour"), ("bone", "probability of bone")):
        if name in maps:
            text.append((words, f"{maps[name][z, y, x]:.3f}"))
    if "attention" in maps:
        text.append(("gate, 1 = MRI, 0 = slide", f"{maps['attention'][z, y, x]:.2f}"))
    if "mri" in summary.maps:
        value = float(summary.maps["mri"][z, y, x])
        size = np.abs(summary.maps["mri"])
        higher = float((size > abs(value)).mean())
        text.append((f"{summary.label}, {summary.unit} a pixel", f"{value:+.3g}" if summary.signed else f"{value:.3g}"))
        text.append(("stronger than", f"{100 * (1 - higher):.1f} % of the voxels"))
    return Place(f"Voxel {x}, {y}, {z}", tuple(text))


def patch(result: state.Result, summary: Attribution, corner: tuple[int, int]) -> Place | None:
    """What is said of the patch with this corner, level-0 px; None where neither map nor answer has such a patch."""
    at = number(summary.patch_xy, corner)
    own = number(result.prediction.patch_xy, corner) if is_of_model(result, summary) else None
    words, attention, values = [], result.prediction.patch_attention, patch_values(summary)
    if attention is not None and own is not None:
        words.append(("attention, of all patches", f"{attention[own]:.2%}"))
    if values is not None and at is not None:
        rank = int((np.abs(values) > abs(values[at])).sum()) + 1
        words.append(
            (f"{summary.label}, {summary.unit}", f"{values[at]:+.3g}" if summary.signed else f"{values[at]:.3g}")
        )
        words.append(("rank by size", f"{rank} of {len(values)} patches"))
    shown = own if at is None else at
    return None if shown is None else Place(f"Patch {shown + 1}", tuple(words))


def patch_picture(
    result: state.Result, summary: Attribution, corner: tuple[int, int]
) -> tuple[Uint8Array, FloatArray] | None:
    """A patch as it lies on the slide, uint8 (y, x, 3), and the map's pixels over it (y, x); None without both."""
    slide, values, at = result.case.inputs.get("he"), summary.maps.get("he"), number(summary.patch_xy, corner)
    if not isinstance(slide, Slide) or slide.mpp is None or values is None or at is None or not summary.patch_size_px:
        return None
    mpp = slide.mpp * float(summary.patch_size_px) / values.shape[1]
    return _patch(result.case.id, *corner, values.shape[1], mpp, slide), values[at]


@st.cache_resource(scope="session", max_entries=32, show_spinner=False)
def _patch(case_id: str, x: int, y: int, edge_px: int, mpp: float, _slide: Slide) -> Uint8Array:
    from cmssd_core.slide.pixels import region

    return region(_slide, xy=(x, y), size_px=(edge_px, edge_px), mpp=mpp)


def without(
    result: state.Result,
    voxel: tuple[int, int, int] | None,
    corner: tuple[int, int] | None,
    what: str,
    progress: Progress,
) -> list[str]:
    """What the model in use would say with a patch taken away, or with a box around a voxel filled from around it."""
    from cmssd_core.whatif.change import FILLS, Change
    from dashboard.services import what_if

    if what == "patch":
        off = None if corner is None else number(result.prediction.patch_xy, corner)
        if off is None:
            return []
        change, done = Change(patches_off=(off,)), f"Without patch {off + 1}"
    else:
        volume = result.case.inputs.get("mri")
        if voxel is None or not isinstance(volume, Volume):
            return []
        change = Change(erased=_box_around(volume, voxel))
        done = f"With {2 * BOX_MM:g} mm around the voxel on its slice filled by {FILLS['surroundings']}"
    before, after = result.prediction, what_if.ask(result, change, progress).prediction
    now = {line.task: line for line in describe_answers(after)}
    words = [
        f"{line.title.lower()} {line.value} → **{now[line.task].value}**"
        for line in describe_answers(before)
        if line.task in now
    ]
    if before.tumour_ml is not None and after.tumour_ml is not None and not words:
        words.append(f"tumour {before.tumour_ml:.1f} mL → **{after.tumour_ml:.1f} mL**")
    return [f"{done}: {', '.join(words)}. :small[An input that no patient has: the model was not trained on it.]"]


def _box_around(volume: Volume, voxel: tuple[int, int, int]) -> Region:
    """A square on the voxel's slice, in the slice's own mm as it is shown."""
    from cmssd_core.report.display import lay_out
    from cmssd_core.whatif.change import box

    x, y, z = voxel
    marked = np.zeros(volume.voxels.shape[1:], dtype=np.float32)
    marked[z, y, x] = 1.0
    layout, index = lay_out(volume.affine, marked.shape), reading.slice_of(volume, voxel)
    row, column = np.argwhere(layout.slice_of(marked, index) == 1.0)[0]
    at_x, at_y = (float(column) + 0.5) * layout.col_mm, (float(row) + 0.5) * layout.row_mm
    return box(index, (max(0.0, at_x - BOX_MM), at_x + BOX_MM), (max(0.0, at_y - BOX_MM), at_y + BOX_MM))
