"""The criteria of a case for its viewers: masks over the MRI, outlines over the slide, each under its own name."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from cmssd_core.types import BoolArray, Slide, Volume
from dashboard import state
from dashboard.selection import CaseRef
from dashboard.services import reading
from dashboard.viewers.layers import Colormap, Outlines, Overlay

if TYPE_CHECKING:
    from cmssd_core.explain.criteria import Criterion, Outline

#: A mask that is a picture is outlined along the edges of cells, so many to its longer side.
CELLS = 128
_LOOSE = " Its mask is finer than this outline, which closes its gaps."
_ON_MRI: tuple[Colormap, ...] = ("yellow", "white")
_ON_SLIDE: tuple[Colormap, ...] = ("green", "cyan", "white", "orange")  # a reader's own annotations are yellow


def find_criteria(result: state.Result) -> dict[str, Outline | None]:
    """The criteria of the case's cohort by name, None where nobody drew one: not assessable. {} for an upload."""
    of = reading.ref(result)
    return {} if of.cohort is None else _drawn(str(of.cohort), of.case_id, result.case.id, result)


@st.cache_resource(scope="session", max_entries=4, show_spinner="Reading the criteria")
def _drawn(cohort: str, case_id: str, content_id: str, _result: state.Result) -> dict[str, Outline | None]:
    from cmssd_core.explain import criteria

    root, row = Path(cohort).parent, reading.row(CaseRef(Path(cohort), case_id))
    return {} if row is None else criteria.outlines(row, root, _result.case, criteria.criteria(root))


def overlays(result: state.Result, like: Volume) -> list[Overlay]:
    """The criteria that are drawn on the MRI, as masks. Raises InputError where one cannot be read."""
    found = [
        (one.criterion, one.voxels)
        for one in find_criteria(result).values()
        if one is not None and one.voxels is not None
    ]
    return [
        Overlay(name=_name(criterion), values=voxels, meaning=_meaning(criterion), colormap=colour)
        for (criterion, voxels), colour in zip(found, cycle(_ON_MRI), strict=False)
        if voxels.shape == like.voxels.shape[1:]
    ]


def outlines(result: state.Result, on: Slide) -> list[Outlines]:
    """The criteria that are drawn on the slide. Raises InputError where one cannot be read."""
    found = [each for each in find_criteria(result).values() if each is not None and each.voxels is None]
    return [
        Outlines(
            name=_name(each.criterion), geojson=_geojson(each.digest, on.level_sizes[0], each), colormap=colour,
            meaning=_meaning(each.criterion) + (_LOOSE if each.picture is not None else ""),
        )
        for each, colour in zip(found, cycle(_ON_SLIDE), strict=False)
    ]  # fmt: skip


def _name(criterion: Criterion) -> str:
    name = f"Known {criterion.name.replace('_', ' ')}"
    return f"{name} (criterion)" if name in reading.TRUTHS else name  # a site may call its own "tumour"


def _meaning(criterion: Criterion) -> str:
    return f"{criterion.meaning} From the cohort, not from the model."


@st.cache_resource(scope="session", max_entries=8, show_spinner=False)
def _geojson(digest: str, size_px: tuple[int, int], _found: Outline) -> dict[str, Any]:
    if _found.polygons is not None:
        areas = [[[list(corner) for corner in ring] for ring in area] for area in _found.polygons]
    else:
        assert _found.picture is not None
        areas = _traced(_found.picture, size_px)
    shape = {"type": "MultiPolygon", "coordinates": areas}
    return {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": shape, "properties": {}}]}


def _traced(picture: BoolArray, size_px: tuple[int, int]) -> list[list[list[list[float]]]]:
    """What surrounds a picture of the whole slide closely: areas, each its outer ring and its holes, in level-0 px.

    A lace has more edge than anyone draws, so its gaps are closed; nothing that was drawn is left out.
    """
    from scipy.ndimage import binary_closing, label

    from cmssd_core.slide.outlines import outlines as rings

    height, width = picture.shape
    edge = -(-max(height, width) // CELLS)
    padded = np.pad(picture, ((0, -height % edge), (0, -width % edge)))
    cells = padded.reshape(padded.shape[0] // edge, edge, padded.shape[1] // edge, edge).any((1, 3))
    regions, count = label(binary_closing(np.pad(cells, 1))[1:-1, 1:-1])
    to_px = np.array(size_px) / (width, height)
    return [
        [
            (np.minimum(np.array([*ring, ring[0]]) * edge, (width, height)) * to_px).round(1).tolist()
            for ring in rings(regions == number)
        ]
        for number in range(1, count + 1)
    ]
