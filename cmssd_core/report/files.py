"""Prediction to files: everything is made beside its place first, then moved in; no file is half-written."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from cmssd_core.config import settings
from cmssd_core.machine import store as storage
from cmssd_core.machine.atomic import claim
from cmssd_core.report import html, pictures
from cmssd_core.types import Affine, Case, FloatArray, InputError, Prediction, Slide, Volume
from cmssd_core.volume.itk import to_image

Tiers = Sequence[tuple[str, float]]

NOTE = "research use only; not a medical device"
MAPS = ("tumour", "bone", "attention")
PICTURES = ("tumour", "slices", "attention", "slide")
VERSION = 1  # part of the content key of kept files; raised when they would look different
#: Every name this module may write. Names of an earlier run that this one does not write are removed from OUT.
NAMES = (
    "prediction.json",
    "tumour.nii.gz",
    "bone.nii.gz",
    "attention.nii.gz",
    "attention.npz",
    "overlay_tumour.png",
    "overlay_slices.png",
    "overlay_attention.png",
    "overlay_slide.png",
    "report.html",
)
PART = ".cmssd-"  # what a folder of files on their way is called, with eight more characters
LEFT_S = 3600.0  # a folder of files on their way that is older is a killed run's


def prediction_json(prediction: Prediction, *, tiers: Tiers | None = None) -> dict[str, Any]:
    """The prediction as plain numbers and words: what prediction.json holds and `--json` prints.

    Areas in mm2 (slices count from 0), volumes in mL, severities in percent; None where a figure is not there.
    """
    p = prediction
    return {
        "case_id": p.case_id,
        "model_id": p.model_id,
        "trained": p.trained,
        "severity_pct": p.severity_pct,
        "severity_reason": p.severity_reason,
        "severity_interval": None if p.severity_interval is None else list(p.severity_interval),
        "p_malignant": p.p_malignant,
        **_risk(p),
        "tier": p.tier,
        "tiers": {
            "bounds": [{"name": name, "from_pct": low} for name, low in _tiers(tiers)],
            "unvalidated": True,
        },
        "uncertainty": None if p.uncertainty is None else dict(p.uncertainty),
        "tumour_ml": p.tumour_ml,
        "bone_ml": p.bone_ml,
        "extraosseous_ml": p.extraosseous_ml,
        "slices": [{"index": s.index, "tumour_mm2": s.tumour_mm2, "bone_mm2": s.bone_mm2} for s in p.slices],
        "gate_mean": p.gate_mean,
        "gate_at_site": p.gate_at_site,
        "quality": [{"level": f.level, "what": f.what, "where": f.where} for f in p.quality],
        "steps": list(p.steps),
        "timings_s": dict(p.timings_s),
        "note": NOTE,
    }


def _risk(prediction: Prediction) -> dict[str, Any]:
    """The log hazard, where the model answers it."""
    risk = prediction.answers.get("risk")
    return {} if risk is None else {"risk": {"value": risk.value, "low": risk.low, "high": risk.high}}


def write(
    prediction: Prediction,
    case: Case,
    out: Path,
    *,
    tiers: Tiers | None = None,
    store: storage.Store | None = None,
) -> list[Path]:
    """Writes prediction.json, the maps as NIfTI in the source's space, attention.npz, overlays and report.html.

    store: keeps maps and pictures as files, so that the same prediction is written at once the next time.

    Gives the files written. Everything is made before the first file is moved into `out`, and each file appears
    whole. prediction.json of an earlier run goes first and this one's comes last, so where it is, the others are of
    the same run. Names that this run has no content for are removed. What a killed run left beside `out` is swept.
    InputError where `out` cannot be written.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"a file stands where the results should go ({out}); name a folder", "out")
    fresh = not out.exists()
    beside: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out.parent)
        beside = Path(tempfile.mkdtemp(prefix=PART, dir=out.parent))
        names = _fill(beside, prediction, case, _tiers(tiers), store)
        out.mkdir(exist_ok=True)
        for name in names:
            if (out / name).is_dir():
                raise InputError(f"a folder stands where {name} should go in {out}; name another folder", "out")
        with claim(out, wait=True):
            for name in {names[-1], *NAMES} - set(names[:-1]):
                (out / name).unlink(missing_ok=True)
            for name in names:
                os.replace(beside / name, out / name)
    except OSError as fault:
        if fresh and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        raise InputError(
            f"the results cannot be written to {out} ({fault.strerror or fault}); "
            "free some space or name a folder you may write to",
            "out",
        ) from fault
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)
    return [out / name for name in names]


def _sweep(folder: Path) -> None:
    """Removes what killed runs left in `folder`: old folders of our kind of name that hold nothing but our files."""
    for left in folder.glob(f"{PART}????????"):
        with contextlib.suppress(OSError):
            old = time.time() - left.stat().st_mtime > LEFT_S
            if old and not left.is_symlink() and {path.name for path in left.iterdir()} <= set(NAMES):
                shutil.rmtree(left)


def _tiers(tiers: Tiers | None) -> Tiers:
    return settings().severity_tiers if tiers is None else tiers


def _fill(folder: Path, prediction: Prediction, case: Case, tiers: Tiers, store: storage.Store | None) -> list[str]:
    """Writes every file into `folder`; gives the names in the order they are moved, prediction.json last."""
    lasting = _kept(prediction, store)
    if lasting is None:
        lasting = _made(folder, prediction, case)
        _keep(lasting, prediction, store)
    for name, content in lasting.items():
        (folder / name).write_bytes(content)
    drawn = {picture: lasting[file] for picture in PICTURES if (file := f"overlay_{picture}.png") in lasting}
    (folder / "report.html").write_text(html.render(prediction, case, drawn, tiers=tiers), encoding="utf-8")
    answer = json.dumps(prediction_json(prediction, tiers=tiers), indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "prediction.json").write_text(answer + "\n", encoding="utf-8")
    return [*lasting, "report.html", "prediction.json"]


def _made(folder: Path, prediction: Prediction, case: Case) -> dict[str, bytes]:
    """Maps, raw values and pictures by file name: what takes long and depends on prediction and case alone."""
    for name in MAPS:
        if name in prediction.maps and prediction.affine is not None:
            write_nifti(prediction.maps[name], prediction.affine, folder / f"{name}.nii.gz")
    raw = _raw(prediction)
    if raw:
        np.savez_compressed(folder / "attention.npz", allow_pickle=False, **raw)
    made = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return made | {f"overlay_{name}.png": png for name, png in draw(prediction, case).items()}


def _key(prediction: Prediction) -> str:
    """Content key of a prediction's files: everything it says but the time it took."""
    summary = prediction_json(prediction, tiers=()) | {"timings_s": None}
    maps = {name: hashlib.sha256(m.tobytes()).hexdigest() for name, m in prediction.maps.items()}
    return storage.key(files=VERSION, told=summary, maps=maps)


def _kept(prediction: Prediction, store: storage.Store | None) -> dict[str, bytes] | None:
    with contextlib.suppress(storage.StoreError):
        entry = store.get(_key(prediction)) if store else None
        return None if entry is None else {name: array.tobytes() for name, array in entry.arrays.items()}
    return None


def _keep(lasting: Mapping[str, bytes], prediction: Prediction, store: storage.Store | None) -> None:
    """Keeps the files for next time; a store that refuses costs time then, nothing now."""
    arrays = {name: np.frombuffer(content, np.uint8) for name, content in lasting.items()}
    with contextlib.suppress(storage.StoreError):
        if store and arrays:
            store.put(_key(prediction), arrays=arrays, meta={})


def draw(prediction: Prediction, case: Case) -> dict[str, bytes]:
    """The pictures of a case by name, PNG bytes: "tumour", "slices", "attention", "slide", as far as they exist."""
    drawn: dict[str, bytes] = {}
    volume, slide = case.inputs.get("mri"), case.inputs.get("he")
    if isinstance(volume, Volume) and "tumour" in prediction.maps:
        drawn["tumour"] = pictures.tumour_overlay(volume, prediction)
        if len(prediction.slices) > 1:
            drawn["slices"] = pictures.slice_strip(volume, prediction)
        if "attention" in prediction.maps:
            drawn["attention"] = pictures.attention_overlay(volume, prediction)
    if isinstance(slide, Slide):
        drawn["slide"] = pictures.slide_overlay(slide, prediction)
    return drawn


def _raw(prediction: Prediction) -> Mapping[str, Any]:
    arrays: dict[str, Any] = {}
    if "attention" in prediction.maps:
        arrays["gate"] = prediction.maps["attention"]
    if prediction.affine is not None:
        arrays["affine_ras"] = prediction.affine
    for name in ("patch_attention", "patch_xy", "patch_size_px", "gate_mean", "gate_at_site"):
        value = getattr(prediction, name)
        if value is not None:
            arrays[name] = np.asarray(value)
    return arrays


def write_nifti(array: FloatArray, affine: Affine, path: Path) -> None:
    """Writes float32 (z, y, x) as NIfTI; `affine` maps voxel (x, y, z) to RAS+ mm. OSError where it is not whole."""
    image = to_image(np.asarray(array, np.float32), affine)
    try:
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=4)
    except RuntimeError as fault:
        raise OSError(f"{path.name} could not be written") from fault
    # ITK can stay silent on a full disk; the checksum at the end of the gzip stream cannot.
    try:
        with gzip.open(path) as stream:
            while stream.read(1 << 22):
                pass
    except EOFError as fault:
        raise OSError(f"{path.name} could not be written whole") from fault
