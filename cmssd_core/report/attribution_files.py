"""Attribution to files: NIfTI on the scan's own grid, GeoJSON in level-0 pixels, NPZ of raw values, PNG, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import label

from cmssd_core.machine.atomic import Write, make_folder, write_together
from cmssd_core.report import attributions as pictures
from cmssd_core.report.files import NOTE, write_nifti
from cmssd_core.slide.outlines import outlines
from cmssd_core.types import Affine, Attribution, Case, FloatArray, Slide, Volume

CELL_PX = 8  # patch pixels; hot areas are outlined along cells of this size
HOT = 95.0  # percentile of the cells with a positive value, over the whole bag


def attribution_json(summary: Attribution) -> dict[str, Any]:
    """All but the maps, as plain numbers and words."""
    kept = ("case_id", "model_id", "trained", "method", "label", "target", "unit", "signed", "value", "baseline",
            "baseline_value", "gap", "effort", "seconds")  # fmt: skip
    return {
        **{name: getattr(summary, name) for name in kept},
        "maps": sorted(summary.maps),
        "shares": [asdict(share) for share in summary.shares],
        "notes": list(summary.notes),
        "note": NOTE,
    }


def write(summary: Attribution, case: Case, out: Path) -> list[Path]:
    """Writes attribution.json, .npz and, where there are maps, NIfTI and PNG of the MRI, GeoJSON and PNG of the slide.

    Each file appears whole, attribution.json last. Gives the files written. Raises InputError where `out` cannot be
    written.
    """
    make_folder(out)
    volume, slide = case.inputs.get("mri"), case.inputs.get("he")
    files: dict[str, Write] = {}

    if "mri" in summary.maps and summary.affine is not None and isinstance(volume, Volume):
        values, affine = summary.maps["mri"], summary.affine
        files["attribution_mri.nii.gz"] = lambda part: _nifti(part, values, affine)
        files["attribution_mri.png"] = lambda part: part.write_bytes(pictures.mri_overlay(volume, summary))
    if "he" in summary.maps and summary.patch_xy is not None and isinstance(slide, Slide):
        areas = json.dumps(geojson(summary), allow_nan=False)
        files["attribution_he.geojson"] = lambda part: part.write_text(areas, encoding="utf-8")
        files["attribution_he.png"] = lambda part: part.write_bytes(pictures.slide_overlay(slide, summary))
    arrays: dict[str, Any] = dict(pictures.raw_values(summary))
    for name, value in (
        ("affine_ras", summary.affine),
        ("patch_xy", summary.patch_xy),
        ("patch_size_px", summary.patch_size_px),
    ):
        if value is not None:
            arrays[name] = np.asarray(value)
    if arrays:
        files["attribution.npz"] = lambda part: _npz(part, arrays)
    answer = json.dumps(attribution_json(summary), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    files["attribution.json"] = lambda part: part.write_text(answer, encoding="utf-8")
    write_together({out / name: write for name, write in files.items()})
    return [out / name for name in files]


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


def geojson(summary: Attribution) -> dict[str, Any]:
    """A slide's map for QuPath, in level-0 px: each patch a rectangle with its numbers, and outlines of the hot areas.

    A hot area is where an 8 x 8 cell's mean is among the highest twentieth of all positive ones of the bag.
    """
    assert summary.patch_xy is not None
    assert summary.patch_size_px is not None
    maps = summary.maps["he"]
    edge = maps.shape[1]
    scale = summary.patch_size_px / edge
    cells = _cells(maps)
    positive = cells[cells > 0]
    bound = float(np.percentile(positive, HOT)) if len(positive) else np.inf
    features = []
    for (x, y), values, means in zip(summary.patch_xy.tolist(), maps, cells, strict=True):
        far = (x + summary.patch_size_px, y + summary.patch_size_px)
        ring = [[x, y], [far[0], y], [far[0], far[1]], [x, far[1]], [x, y]]
        numbers = {"sum": float(values.sum()), "mean": float(values.mean()), "largest": float(values.max())}
        features.append(_feature([ring], "patch", {f"{summary.method} {name}": n for name, n in numbers.items()}))
        regions, count = label(means >= bound)
        for number in range(1, count + 1):
            rings = [
                [[x + cx * CELL_PX * scale, y + cy * CELL_PX * scale] for cx, cy in (*ring, ring[0])]
                for ring in outlines(regions == number)
            ]
            mean = float(means[regions == number].mean())
            features.append(_feature(rings, f"hot area of {summary.label}", {f"{summary.method} mean": mean}))
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
