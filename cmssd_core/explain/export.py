"""Attribution to files: NIfTI on the scan's own grid, GeoJSON in level-0 pixels, NPZ of raw values, PNG, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import label

from cmssd_core.report import attributions as pictures
from cmssd_core.report.files import NOTE, write_nifti
from cmssd_core.synthetic.outlines import outlines
from cmssd_core.types import Affine, Attribution, Case, FloatArray, Slide, Volume
from cmssd_core.whole import make_folder, write_whole

CELL_PX = 8  # patch pixels; hot areas are outlined along cells of this size
HOT = 95.0  # percentile of the cells with a positive value, over the whole bag


def attribution_json(told: Attribution) -> dict[str, Any]:
    """All but the maps, as plain numbers and words."""
    kept = ("case_id", "model_id", "trained", "method", "label", "target", "unit", "signed", "value", "baseline",
            "baseline_value", "gap", "effort", "seconds")  # fmt: skip
    return {
        **{name: getattr(told, name) for name in kept},
        "maps": sorted(told.maps),
        "shares": [asdict(share) for share in told.shares],
        "notes": list(told.notes),
        "note": NOTE,
    }


def write(told: Attribution, case: Case, out: Path) -> list[Path]:
    """Writes attribution.json, .npz and, where there are maps, NIfTI and PNG of the MRI, GeoJSON and PNG of the slide.

    Each file appears whole. Gives the files written. Raises InputError where `out` cannot be written.
    """
    make_folder(out)
    volume, slide = case.inputs.get("mri"), case.inputs.get("he")
    written: list[Path] = []

    def whole(name: str, write: Any) -> None:
        write_whole(out / name, write)
        written.append(out / name)

    if "mri" in told.maps and told.affine is not None and isinstance(volume, Volume):
        values, affine = told.maps["mri"], told.affine
        whole("attribution_mri.nii.gz", lambda part: _nifti(part, values, affine))
        whole("attribution_mri.png", lambda part: part.write_bytes(pictures.mri_overlay(volume, told)))
    if "he" in told.maps and told.patch_xy is not None and isinstance(slide, Slide):
        areas = json.dumps(geojson(told), allow_nan=False)
        whole("attribution_he.geojson", lambda part: part.write_text(areas, encoding="utf-8"))
        whole("attribution_he.png", lambda part: part.write_bytes(pictures.slide_overlay(slide, told)))
    arrays: dict[str, Any] = dict(pictures.raw_values(told))
    for name, value in (
        ("affine_ras", told.affine),
        ("patch_xy", told.patch_xy),
        ("patch_size_px", told.patch_size_px),
    ):
        if value is not None:
            arrays[name] = np.asarray(value)
    if arrays:
        whole("attribution.npz", lambda part: _npz(part, arrays))
    answer = json.dumps(attribution_json(told), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    whole("attribution.json", lambda part: part.write_text(answer, encoding="utf-8"))
    return written


def _nifti(path: Path, values: FloatArray, affine: Affine) -> None:
    # ITK tells the format by the suffix, so a file on its way must have it for a moment.
    named = path.with_name(f"{path.name}.nii.gz")
    try:
        write_nifti(values, affine, named)
        named.replace(path)
    finally:
        named.unlink(missing_ok=True)


def _npz(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def geojson(told: Attribution) -> dict[str, Any]:
    """A slide's map for QuPath, in level-0 px: each patch a rectangle with its numbers, and outlines of the hot areas.

    A hot area is where an 8 x 8 cell's mean is among the highest twentieth of all positive ones of the bag.
    """
    assert told.patch_xy is not None
    assert told.patch_size_px is not None
    maps = told.maps["he"]
    edge = maps.shape[1]
    scale = told.patch_size_px / edge
    cells = _cells(maps)
    positive = cells[cells > 0]
    bound = float(np.percentile(positive, HOT)) if len(positive) else np.inf
    features = []
    for (x, y), values, means in zip(told.patch_xy.tolist(), maps, cells, strict=True):
        far = (x + told.patch_size_px, y + told.patch_size_px)
        ring = [[x, y], [far[0], y], [far[0], far[1]], [x, far[1]], [x, y]]
        numbers = {"sum": float(values.sum()), "mean": float(values.mean()), "largest": float(values.max())}
        features.append(_feature([ring], "patch", {f"{told.method} {name}": n for name, n in numbers.items()}))
        regions, count = label(means >= bound)
        for number in range(1, count + 1):
            rings = [
                [[x + cx * CELL_PX * scale, y + cy * CELL_PX * scale] for cx, cy in (*ring, ring[0])]
                for ring in outlines(regions == number)
            ]
            mean = float(means[regions == number].mean())
            features.append(_feature(rings, f"hot area of {told.label}", {f"{told.method} mean": mean}))
    return {"type": "FeatureCollection", "features": features}


def _cells(maps: np.ndarray) -> np.ndarray:
    patches, height, width = maps.shape
    rows, columns = height // CELL_PX, width // CELL_PX
    cut = maps[:, : rows * CELL_PX, : columns * CELL_PX].astype(np.float64)
    return np.asarray(cut.reshape(patches, rows, CELL_PX, columns, CELL_PX).mean((2, 4)))


def _feature(rings: list[list[list[float]]], name: str, measured: dict[str, float]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name},
            "measurements": measured,
        },
    }
