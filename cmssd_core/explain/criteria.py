"""Criteria of pathology that a map is held against: a name, a modality, a mask for each case, and what it means.

Two are built in, by their columns in cohort.csv; a site adds its own in a small criteria.json beside that file:

    {"criteria": [{"name": "periosteal_reaction", "modality": "mri", "meaning": "New bone ...", "column": "periost"},
                  {"name": "necrosis", "modality": "he", "meaning": "...", "masks": {"case-1": "masks/1.geojson"}}]}

A case without a mask is not assessable: its criterion is None here, never an empty mask. An empty mask says that
somebody looked and there was none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image, ImageDraw

from cmssd_core.explain.placing import on_grid
from cmssd_core.explain.question import Mark
from cmssd_core.types import BoolArray, Case, InputError, PatchBag, Slide, Volume
from cmssd_core.volume.mask import read_mask

FILE = "criteria.json"
MODALITIES = {"mri": (".nii", ".nii.gz", ".nrrd", ".mha"), "he": (".geojson", ".json", ".png")}
Ring = list[tuple[float, float]]
FINER = 4  # times a patch pixel, to draw a polygon


@dataclass(frozen=True)
class Criterion:
    """One criterion. column: of cohort.csv, with the mask's path; masks: paths by case_id, which win over it.

    kind: the classification of a GeoJSON annotation that counts, None = every annotation.
    """

    name: str
    modality: str
    meaning: str
    column: str | None = None
    masks: Mapping[str, str] = field(default_factory=dict)
    kind: str | None = None


BUILT_IN = (
    Criterion(
        "osteoid",
        "he",
        "Osteoid laid down by the tumour's own cells, pink lace between them: what makes a sarcoma an osteosarcoma.",
        column="osteoid_mask",
    ),
    Criterion(
        "cortical_destruction",
        "mri",
        "The dark line of the cortex is broken by the lesion: a sign of aggressive growth.",
        column="cortical_destruction_mask",
    ),
)


@dataclass(frozen=True, eq=False)
class Outline:
    """A criterion of one case, where it lies. On the MRI voxels (z, y, x) of the source volume; on the slide polygons
    in level-0 px, each an outer ring and its holes, or a picture over the whole slide.

    digest: tells this mask from others, for content keys.
    """

    criterion: Criterion
    digest: str
    voxels: BoolArray | None = None
    polygons: tuple[tuple[Ring, ...], ...] | None = None
    picture: BoolArray | None = None


def criteria(root: Path) -> tuple[Criterion, ...]:
    """The built-in criteria and those of criteria.json in a cohort's folder. Raises InputError naming what is wrong."""
    path = root / FILE
    if not path.is_file():
        return BUILT_IN
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["criteria"]
        own = tuple(_criterion(entry) for entry in listed)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as problem:
        raise InputError(
            f"{FILE} cannot be read ({problem}); expected {{'criteria': [{{'name', 'modality', 'meaning', 'column' or "
            "'masks'}, ...]}; mend it"
        ) from None
    names = [one.name for one in (*BUILT_IN, *own)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{FILE}: the criterion {twice} is there twice or built in; give another name")
    return (*BUILT_IN, *own)


def _criterion(entry: Mapping[str, Any]) -> Criterion:
    allowed = {"name", "modality", "meaning", "column", "masks", "kind"}
    unknown = set(entry) - allowed
    made = Criterion(**{key: value for key, value in entry.items() if key in allowed})
    if unknown:
        raise ValueError(f"{entry.get('name')} has {', '.join(sorted(unknown))}, expected {', '.join(sorted(allowed))}")
    if made.modality not in MODALITIES:
        raise ValueError(f"{made.name} is of modality {made.modality!r}, expected mri or he")
    if not (isinstance(made.name, str) and made.name.isidentifier() and isinstance(made.meaning, str) and made.meaning):
        raise ValueError(
            f"{made.name!r} needs a name of letters, digits and '_' and a sentence that says what it means"
        )
    if (made.column is None) == (not made.masks) or not isinstance(made.masks, dict):
        raise ValueError(f"{made.name} needs either a column or masks by case_id")
    return made


def outlines(row: pd.Series[Any], root: Path, case: Case, listed: Iterable[Criterion]) -> dict[str, Outline | None]:
    """Each criterion of one case of a cohort by name; None where it is not assessable: no mask, or no such image.

    Raises InputError where a mask is there and cannot be read.
    """
    found: dict[str, Outline | None] = {}
    for one in listed:
        words = one.masks.get(str(row["case_id"])) or (row.get(one.column) if one.column else None)
        present = case.inputs.get(one.modality)
        found[one.name] = (
            None if words is None or pd.isna(words) or present is None else outline(one, root / str(words), case)
        )
    return found


def outline(criterion: Criterion, path: Path, case: Case) -> Outline:
    """One mask of one case: NIfTI (NRRD, MHA) on its MRI; GeoJSON in level-0 px or a PNG of the whole slide on it.

    Raises InputError where the file is another or cannot be read.
    """
    suffixes = MODALITIES[criterion.modality]
    if not path.is_file():
        raise InputError(f"criterion {criterion.name}: no file {path.name}; mend the path or empty it")
    if not path.name.lower().endswith(suffixes):
        raise InputError(f"criterion {criterion.name}: {path.name} came, expected {', '.join(suffixes)}; export it so")
    digest = hashlib.sha256(path.read_bytes() + repr((criterion.name, criterion.kind)).encode()).hexdigest()
    present = case.inputs.get(criterion.modality)
    if isinstance(present, Volume):
        return Outline(criterion, digest, voxels=read_mask(path, like=present))
    if not isinstance(present, Slide):
        raise InputError(
            f"criterion {criterion.name} is of the {criterion.modality}, which this case has not; leave it"
        )
    if path.suffix.lower() == ".png":
        with Image.open(path) as picture:
            return Outline(criterion, digest, picture=np.asarray(picture.convert("L")) > 0)
    return Outline(criterion, digest, polygons=_polygons(path, criterion.kind))


def _polygons(path: Path, kind: str | None) -> tuple[tuple[Ring, ...], ...]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        features = summary["features"] if isinstance(summary, dict) and "features" in summary else summary
        features = [features] if isinstance(features, dict) else features
        found = []
        for feature in features:
            named = (feature.get("properties") or {}).get("classification") or {}
            if kind is not None and named.get("name") != kind:
                continue
            shape = feature["geometry"]
            if shape["type"] not in ("Polygon", "MultiPolygon"):
                raise ValueError(f"a {shape['type']} has no area")
            parts = [shape["coordinates"]] if shape["type"] == "Polygon" else shape["coordinates"]
            found += [tuple([(float(x), float(y)) for x, y, *_ in ring] for ring in part) for part in parts]
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as problem:
        raise InputError(f"{path.name} is no GeoJSON of polygons ({problem}); export the annotation anew") from None
    return tuple(found)


def mark(found: Outline, case: Case, prepared: Case) -> Mark:
    """A criterion as the methods want it: in the frame of the prepared case, bool (1, slice or patch, y, x)."""
    modality = found.criterion.modality
    mask = _on_slices(found, case, prepared) if modality == "mri" else _on_patches(found, case, prepared)
    return Mark(found.criterion.name, modality, torch.tensor(mask)[None])


def _on_slices(found: Outline, case: Case, prepared: Case) -> npt.NDArray[np.bool_]:
    volume, grid = case.inputs["mri"], prepared.inputs["mri"]
    assert isinstance(volume, Volume)
    assert isinstance(grid, Volume)
    assert found.voxels is not None
    return np.array(on_grid(found.voxels, volume.affine, like=grid))


def _on_patches(found: Outline, case: Case, prepared: Case) -> npt.NDArray[np.bool_]:
    slide, bag = case.inputs["he"], prepared.inputs["he"]
    assert isinstance(slide, Slide)
    assert isinstance(bag, PatchBag)
    edge = bag.patches.shape[1]
    scale = bag.mpp / bag.slide_mpp  # level-0 px a patch pixel
    out = np.zeros(bag.patches.shape[:3], dtype=bool)
    for number, (x, y) in enumerate(bag.xy):
        if found.picture is not None:
            width, height = slide.level_sizes[0]
            to_picture = np.array(found.picture.shape[::-1]) / (width, height)
            at = (np.arange(edge) + 0.5) * scale
            columns = np.floor((x + at) * to_picture[0]).astype(int)
            rows = np.floor((y + at) * to_picture[1]).astype(int)
            inside = ((rows >= 0) & (rows < found.picture.shape[0]))[:, None] & (
                (columns >= 0) & (columns < found.picture.shape[1])
            )
            seen = found.picture[
                np.clip(rows, 0, found.picture.shape[0] - 1)[:, None], np.clip(columns, 0, found.picture.shape[1] - 1)
            ]
            out[number] = seen & inside
            continue
        drawn = np.zeros((edge, edge), dtype=bool)
        for rings in found.polygons or ():
            drawn |= _filled(rings, (float(x), float(y)), scale, edge)
        out[number] = drawn
    return out


def _filled(rings: tuple[Ring, ...], corner: tuple[float, float], scale: float, edge: int) -> npt.NDArray[np.bool_]:
    """One polygon with its holes, drawn on a patch: pixels at least half inside it."""
    canvas = Image.new("L", (edge * FINER, edge * FINER))
    draw = ImageDraw.Draw(canvas)
    for index, ring in enumerate(rings):
        # Pillow counts a pixel's centre as whole numbers, and draws a polygon's rim as inside.
        points = [((x - corner[0]) / scale * FINER - 0.5, (y - corner[1]) / scale * FINER - 0.5) for x, y in ring]
        if len(points) > 2:
            draw.polygon(points, fill=0 if index else 1)
    share = np.asarray(canvas).reshape(edge, FINER, edge, FINER).mean((1, 3))
    return np.asarray(share >= 0.5)
