"""What the Case page shows of one result beyond its figures: layers, the patches' places on the MRI, stain, truth.

Kept for the session under the case's id, never an array as a key.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from cmssd_core.cases.modalities import MODALITIES, cut_patches
from cmssd_core.config import settings
from cmssd_core.report.display import SHOWN_FROM, lay_out
from cmssd_core.slide.stain import Stain
from cmssd_core.types import Case, FloatArray, InputError, Prediction, Slide, Truth, Volume
from dashboard import permitted, selection, state
from dashboard.services import cohort as cohorts
from dashboard.services.case import Request, analyse
from dashboard.services.fence import fence
from dashboard.services.model import Progress, at_work, model
from dashboard.viewers.layers import Colormap, Overlay, Patches, PatchLayer, Point
from dashboard.views.mri import first_slice

#: Facts of a cohort's row that the page's head shows: column -> label. The last three are a user's own columns.
FACTS = {
    "age_years": "age", "sex": "sex", "body_part": "body part", "growth_plate": "growth plate",
    "laterality": "laterality", "centre": "centre", "scanner": "scanner", "field_t": "field",
}  # fmt: skip
_UNITS = {"age_years": " years", "field_t": " T"}
#: Overlay of a known answer -> mask of Truth and colour. Destroyed cortex is a criterion: services/criteria.py.
TRUTHS: dict[str, tuple[str, Colormap]] = {
    "Known tumour": ("tumour", "pink"), "Known bone": ("bone", "cyan"), "Known lesion": ("lesion", "orange"),
}  # fmt: skip


def ref(result: state.Result) -> selection.CaseRef:
    """Which case a result is of: a row of a cohort, or, by its content id, what this session uploaded."""
    request = result.request
    if not isinstance(request, Request) or request.cohort is None:
        return selection.CaseRef(None, result.case.id)
    first = cohorts.table(request.cohort)["case_id"].iloc[0]
    return selection.CaseRef(request.cohort, str(first) if request.case_id is None else request.case_id)


def read(of: selection.CaseRef, progress: Progress) -> state.Result:
    """Analyses a row of a cohort; a result of before comes from the store."""
    return analyse(Request(cohort=of.cohort, case_id=of.case_id), progress)


def row(of: selection.CaseRef) -> pd.Series[Any] | None:
    """The case's row of its cohort's table, None for an upload."""
    if of.cohort is None:
        return None
    table = cohorts.table(of.cohort)
    found = table[table["case_id"] == of.case_id]
    return None if found.empty else found.iloc[0]


def facts(of: selection.CaseRef) -> dict[str, str]:
    """label -> what the cohort says of the patient, None-free: what it does not say is left out."""
    present = row(of)
    words: dict[str, str] = {}
    for column, label in FACTS.items():
        value = None if present is None or column not in present.index else present[column]
        if value is None or pd.isna(value):
            continue
        number = isinstance(value, int | float)
        words[label] = f"{value:g}{_UNITS.get(column, '')}" if number else str(value)
    return words


def unread(result: state.Result) -> tuple[str, ...]:
    """The modalities that the case's row or its files have, and that the model in use does not read."""
    present = row(ref(result))
    named = set() if present is None else {str(column) for column in present.dropna().index}
    read = model().spec
    return tuple(
        name
        for name, each in MODALITIES.items()
        if name not in read and (name in result.case.inputs or not named.isdisjoint(each.columns))
    )


def overlays(result: state.Result) -> list[Overlay]:
    """The model's maps over the MRI."""
    maps = result.prediction.maps
    made = []
    if "tumour" in maps:
        made.append(
            Overlay(
                name="Tumour probability",
                values=maps["tumour"],
                meaning="The model's probability of malignant tumour, voxel by voxel; the mask starts at 0.5.",
                colormap="magma", limits=(0.0, 1.0), shown_from=SHOWN_FROM, opacity=0.5,
            )
        )  # fmt: skip
    if "bone" in maps:
        made.append(
            Overlay(
                name="Bone",
                values=maps["bone"],
                meaning="The model's probability of the affected bone's envelope, by which tumour area is divided.",
                colormap="viridis", limits=(0.0, 1.0), shown_from=0.5, opacity=0.3, shown=False,
            )
        )  # fmt: skip
    if "attention" in maps:
        made.append(
            Overlay(
                name="Gate",
                values=maps["attention"],
                meaning="Where the gate weighted the MRI: 1 = all MRI, 0 = all slide. Not evidence of tumour.",
                colormap="viridis", limits=(0.0, 1.0), opacity=0.4, shown=False,
            )
        )  # fmt: skip
    return made


def truths(of: selection.CaseRef, like: Volume) -> list[Overlay]:
    """The cohort's own masks over the MRI; [] where it has none. Raises InputError where one cannot be read."""
    known = None if of.cohort is None else _truth(str(of.cohort), of.case_id)
    made = []
    for name, (field, colour) in TRUTHS.items():
        mask = None if known is None else known.masks.get(field)
        if mask is not None and mask.shape == like.voxels.shape[1:]:
            meaning = "From the cohort, not from the model."
            made.append(Overlay(name=name, values=mask, meaning=meaning, colormap=colour, opacity=0.4))
    return made


@st.cache_resource(scope="session", max_entries=4, show_spinner="Reading the known answer")
def _truth(cohort: str, case_id: str) -> Truth | None:
    from cmssd_core.cohort.table import admit_row

    present = row(selection.CaseRef(Path(cohort), case_id))
    if present is None:
        return None
    return admit_row(present, Path(cohort).parent, within=permitted.root(), fence=fence()).truth


def patches(result: state.Result) -> Patches | None:
    """Where the patches lie on the slide and on the MRI; None where no patch was read."""
    return patches_of(result.case, result.prediction)


def patches_of(case: Case, prediction: Prediction) -> Patches | None:
    """As `patches`, of a case that is no result of this session."""
    if prediction.patch_xy is None or not prediction.patch_size_px or not len(prediction.patch_xy):
        return None
    places = _places(case, prediction.patch_xy)
    return Patches(xy=prediction.patch_xy, size_px=float(prediction.patch_size_px), places_mm=places)


def layers(
    result: state.Result, *, beside: state.Result | None = None, alone: FloatArray | None = None
) -> list[PatchLayer]:
    """The model's values of the patches. beside: the case it is compared with, which gets the same colour scale.

    alone: what `alone` says of them.
    """
    attention = result.prediction.patch_attention
    if attention is None or not attention.size:
        return []
    other = None if beside is None else beside.prediction.patch_attention
    top = max(float(each.max()) for each in (attention, other) if each is not None and each.size)
    meaning = "How much a patch counted in the pooling; all patches sum to 1. Not evidence of tumour."
    limits = (0.0, top if top > 0 else 1.0)
    made = [PatchLayer(name="Attention", values=attention, meaning=meaning, limits=limits, opacity=0.4)]
    if alone is None or len(alone) != attention.size:
        return made
    from cmssd_core.inference.patchwise import doubt

    return [
        replace(made[0], shown=False),
        PatchLayer(
            name="Patch probability", values=alone, limits=(0.0, 1.0), colormap="magma", opacity=0.5,
            meaning="Probability of malignancy where the model is given this patch alone, without the MRI. Not "
            "calibrated: a slide of one patch is rare in training.",
        ),
        PatchLayer(
            name="Patch uncertainty", values=doubt(alone), limits=(0.0, 1.0), opacity=0.5, shown=False, unit="bit",
            meaning="Entropy of the patch probability: 0 where the model is sure of a patch, 1 where it cannot tell.",
        ),
    ]  # fmt: skip


def asks_patches() -> bool:
    """Whether the model in use can be asked how malignant one patch is, and nothing else of the case."""
    from cmssd_core.studies.conditions import can_answer

    asked = model().model
    return "malignant" in asked.tasks and can_answer(asked, ("he",))


def alone(result: state.Result) -> FloatArray | None:
    """The model's probability for each patch by itself; None where it does not answer without the MRI."""
    return _alone(result.key, result.prediction.model_id, result.case)


@st.cache_resource(scope="session", max_entries=8, show_spinner="Asking the model about each patch")
def _alone(key: str, model_id: str, _case: Case) -> FloatArray | None:
    from cmssd_core.inference.patchwise import patchwise

    chosen = model()
    if chosen.model_id != model_id:
        raise InputError("this case was read by another model than the one in use now; read it again")
    with at_work(chosen.model_id, lambda share, what: None):
        return patchwise(_case, chosen, settings=settings())


def site(case: Case) -> Point | None:
    """The biopsy site, RAS+ mm, where it lies inside the MRI; None = unregistered."""
    from cmssd_core.cases.site import is_registered

    slide = case.inputs.get("he")
    return slide.site_mm if isinstance(slide, Slide) and is_registered(case) else None


def _places(case: Case, xy: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """Each patch's place, RAS+ mm (patch, 3): the way section 2.6 lays them on the slice nearest to the biopsy site."""
    volume, slide, where = case.inputs.get("mri"), case.inputs.get("he"), site(case)
    if not isinstance(volume, Volume) or not isinstance(slide, Slide) or where is None or slide.mpp is None:
        return None
    moved = (xy - xy.mean(axis=0)) * slide.mpp / 1000.0
    mapping = getattr(model().model, "mapping", None)
    if mapping is not None:
        matrix, shift = (part.detach().cpu().double().numpy() for part in (mapping.matrix, mapping.shift_mm))
        moved = moved @ matrix.T + shift
    # In the frame the model reads, whatever way the scan is stored: columns R to L, rows A to P or S to I.
    shape = volume.voxels.shape[1:]
    affine = lay_out(volume.affine, shape).orientation.affine(volume.affine, shape)
    column, row, index = np.linalg.solve(affine[:3, :3], np.asarray(where) - affine[:3, 3])
    column_mm, row_mm = np.linalg.norm(affine[:3, :2], axis=0)
    columns, rows = column + moved[:, 0] / column_mm, row + moved[:, 1] / row_mm
    voxels = np.stack([columns, rows, np.full(len(moved), round(index))], axis=1)
    return np.asarray(voxels @ affine[:3, :3].T + affine[:3, 3])


def stain(result: state.Result) -> Stain | None:
    """The slide's stain, fitted as the model's own preparation fits it; None where none can be, or none is read."""
    slide = result.case.inputs.get("he")
    return _stain(result.key, slide) if isinstance(slide, Slide) else None


@st.cache_resource(scope="session", max_entries=4, show_spinner=False)
def _stain(key: str, _slide: Slide) -> Stain | None:
    from cmssd_core.slide import stain as stains
    from cmssd_core.slide.patches import bag

    spec, chosen = model().spec, settings()
    try:
        return stains.fit(bag(_slide, settings=cut_patches(spec, chosen))[0].patches)
    except InputError:
        return None


def slice_mm(volume: Volume, index: int, near: Point | None) -> Point:
    """A place on slice `index` (from 0, as in Prediction.slices): straight through `near`, else the slice's middle."""
    shape = volume.voxels.shape[1:]
    axis = 2 - lay_out(volume.affine, shape).orientation.axes[0]
    voxel = (np.array(shape[::-1]) - 1) / 2
    if near is not None:
        voxel = np.linalg.solve(volume.affine[:3, :3], np.asarray(near) - volume.affine[:3, 3])
    voxel[axis] = index
    x, y, z = volume.affine[:3, :3] @ voxel + volume.affine[:3, 3]
    return float(x), float(y), float(z)


def slice_of(volume: Volume, voxel: tuple[int, int, int]) -> int:
    """The slice (from 0) that a voxel (x, y, z) lies on."""
    return voxel[2 - lay_out(volume.affine, volume.voxels.shape[1:]).orientation.axes[0]]


def heart(result: state.Result) -> Point | None:
    """Where to look first: the middle of the tumour on the slice that shows most of it; None without a map."""
    from cmssd_core.report.display import MASK

    volume, prediction = result.case.inputs.get("mri"), result.prediction
    if not isinstance(volume, Volume):
        return None
    drawn = [prediction.maps[name] for name in ("tumour", "bone") if name in prediction.maps]
    if not drawn:
        return None
    index = first_slice(volume, prediction)
    axis = lay_out(volume.affine, volume.voxels.shape[1:]).orientation.axes[0]
    for grid in drawn:
        plane = np.argwhere(np.moveaxis(grid, axis, 0)[index] >= MASK)
        if len(plane):
            zyx = np.insert(plane.mean(axis=0), axis, index)
            x, y, z = volume.affine[:3, :3] @ zyx[::-1] + volume.affine[:3, 3]
            return float(x), float(y), float(z)
    return slice_mm(volume, index, None)
