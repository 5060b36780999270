"""Explanations for the screen: what may be asked, attributions under the model's lock and kept, what a place says.

An attribution is kept for the session under its question, which is made of ids and frozen settings, never of arrays.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from cmssd_core.config import settings
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.explain.sanity import spearman
from cmssd_core.explain.targets import TARGETS, Target
from cmssd_core.types import Attribution, BoolArray, Case, FloatArray, InputError, Volume
from dashboard import state
from dashboard.services import criteria, reading
from dashboard.services.catalogue import entries
from dashboard.services.cohort import State
from dashboard.services.model import Progress, at_work, model
from dashboard.viewers.layers import Overlay, Patches, PatchLayer

if TYPE_CHECKING:
    from cmssd_core.explain.methods import Method
    from cmssd_core.inference.predict import Predictor

KEPT = 16  # attributions of one case a session keeps
#: Colours end where all but this share of the values lie, so that one pixel does not make all others pale.
WITHIN = 0.995
LEAST = 1e-4  # the viewer's colours need a wider range than a hundred-thousandth
FAINT = 0.05  # of the colours' end: nearer to 0 than this the image shows through
#: Targets by the task they read; the others read maps that a model was taught and tells only when asked.
_TASKS = {
    "malignant": "malignant", "benign": "malignant", "severity": "severity_pct", "hazard": "risk",
    "tumour": "tumour", "bone": "bone",
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What is asked of one case, by its state.Result.key.

    weights: None = the model in use. region: name and digest of a region, "" = none.
    """

    case: str
    method: str
    target: str = "malignant"
    region: str = ""
    weights: Path | None = None
    settings: ExplainSettings = field(default_factory=ExplainSettings)


#: Rows of the table that give shares of parts, which are drawn as bars, and no map of the whole image.
CRITERIA, MODALITIES = "criterion_ablation", "modality_shapley"


def methods() -> Mapping[str, Method]:
    """THE table of methods."""
    from cmssd_core.explain.methods import METHODS

    return METHODS


def drawing_methods() -> tuple[str, ...]:
    """The methods that draw a map."""
    return tuple(name for name in methods() if name not in (CRITERIA, MODALITIES))


def targets(weights: Path | None) -> dict[str, str]:
    """Targets that the model has a head for: name -> words."""
    tasks = predictor(weights).model.tasks
    return {name: kind.label for name, kind in TARGETS.items() if name in _TASKS and _TASKS[name] in tasks}


def able(weights: Path | None) -> tuple[str, ...]:
    """The methods that draw a map of this model: GradCAM looks into its encoders, the gate is one it has."""
    asked = predictor(weights).model
    lacking = {"gradcam": not asked.encoders, "gate": asked.fused is None and not asked.encoders}
    return tuple(name for name in drawing_methods() if not lacking.get(name, False))


def unmapped(result: state.Result) -> tuple[str, ...]:
    """The modalities of a case that the model in use reads and no method can draw a map beside."""
    from cmssd_core.explain.baselines import BASELINES

    return tuple(name for name in result.case.inputs if name in model().spec and name not in BASELINES)


def models() -> dict[Path | None, str]:
    """The models one may ask: weights (None = in use) -> what to call them."""
    found: dict[Path | None, str] = {None: f"{model().model_id} (in use)"}
    for entry in entries():
        if not entry.in_use:
            found[entry.weights] = entry.weights.stem
    return found


def predictor(weights: Path | None) -> Predictor:
    """The model in use, or the one of these weights. InputError where they cannot be read."""
    if weights is None:
        return model()
    present = State.of(weights)
    if present is None:
        raise InputError(f"no weights at {weights.name}; choose another model")
    return _loaded(present)


@st.cache_resource(max_entries=3, show_spinner="Loading the model")
def _loaded(present: State) -> Predictor:
    from cmssd_core.inference import predict as inference

    return inference.load(Path(present.path), settings=settings())


@st.cache_resource(scope="session", max_entries=2, show_spinner=False)
def _kept(case: str) -> OrderedDict[Question, Attribution]:
    return OrderedDict()


def find_known(asked: Question) -> Attribution | None:
    """The answer, where it was computed before in this session."""
    return _kept(asked.case).get(asked)


def ask(asked: Question, result: state.Result, region: BoolArray | None, progress: Progress) -> Attribution:
    """Where the answer to a case comes from; computed under the model's lock unless it is known."""
    from cmssd_core.explain.methods import explain
    from cmssd_core.machine.store import open_store

    present = find_known(asked)
    if present is not None:
        return present
    chosen = predictor(asked.weights)
    drawn = (
        [each for each in criteria.find_criteria(result).values() if each is not None]
        if asked.method == CRITERIA
        else []
    )
    with at_work(chosen.model_id, progress):
        found = explain(
            result.case, chosen, asked.method, Target(asked.target, region), settings=asked.settings,
            progress=progress, criteria=drawn, program=settings(), store=open_store(settings()),
        )  # fmt: skip
    kept = _kept(asked.case)
    kept[asked] = found
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return found


#: The name of the region around the marked voxel, whatever its radius.
BALL = "a ball around the marked voxel"


def regions(result: state.Result, voxel: tuple[int, int, int] | None, radius_mm: float) -> dict[str, BoolArray]:
    """Regions of the MRI that a target may be read in, by name; those that are empty are left out."""
    volume, maps = result.case.inputs.get("mri"), result.prediction.maps
    if not isinstance(volume, Volume):
        return {}
    found: dict[str, BoolArray] = {}
    if "tumour" in maps:
        found["where the model sees tumour"] = maps["tumour"] >= 0.5
    if "bone" in maps:
        found["where the model sees bone"] = maps["bone"] >= 0.5
    if voxel is not None:
        found[BALL] = _ball(volume, voxel, radius_mm)
    for overlay in (*reading.truths(reading.ref(result), volume), *criteria.overlays(result, volume)):
        found[overlay.name.lower()] = np.asarray(overlay.values, dtype=bool)
    return {name: mask for name, mask in found.items() if mask.any()}


def region_key(name: str, mask: BoolArray) -> str:
    """What tells a region from others: its name and its content."""
    return f"{name} {sha256(np.packbits(mask).tobytes()).hexdigest()[:16]}"


def _ball(volume: Volume, voxel: tuple[int, int, int], radius_mm: float) -> BoolArray:
    z, y, x = np.indices(volume.voxels.shape[1:], sparse=True)
    sx, sy, sz = volume.spacing_mm
    far = ((x - voxel[0]) * sx) ** 2 + ((y - voxel[1]) * sy) ** 2 + ((z - voxel[2]) * sz) ** 2
    return np.asarray(far <= radius_mm**2)


def limit(values: FloatArray) -> float:
    """The end of the colours of a map."""
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.quantile(size, WITHIN)) if size.size else 1.0


def overlay(summary: Attribution, *, opacity: float, end: float | None = None) -> Overlay | None:
    """The map over the MRI; None where the method drew none there. end: of the colours, None = the map's own."""
    values = summary.maps.get("mri")
    if values is None:
        return None
    high = (end or limit(values)) if summary.method != "gate" else 1.0
    unit = summary.unit
    if high < LEAST:
        values, high, unit = values * np.float32(1e6), high * 1e6, f"millionth of a {summary.unit}"
    return Overlay(
        name=summary.label, values=values, meaning=_meaning(summary),
        colormap="diverging" if summary.signed else "viridis",
        limits=(-high, high) if summary.signed else (0.0, high), signed=summary.signed, opacity=opacity,
        shown_from=0.0 if summary.method == "gate" else FAINT * high, unit=unit,
    )  # fmt: skip


def patch_values(summary: Attribution) -> FloatArray | None:
    """One value a patch: the sum of its pixels (of the gate the patch's attention); None without a slide."""
    values = summary.maps.get("he")
    if values is None:
        return None
    return values.mean(axis=(1, 2)) if summary.method == "gate" else values.sum(axis=(1, 2))


def patch_layer(summary: Attribution, *, opacity: float, end: float | None = None) -> PatchLayer | None:
    """The map over the slide's patches; None where the method drew none there."""
    values = patch_values(summary)
    if values is None:
        return None
    high = end or float(np.abs(values).max(initial=0.0)) or 1.0
    return PatchLayer(
        name=summary.label, values=values, meaning=_meaning(summary),
        colormap="diverging" if summary.signed else "viridis",
        limits=(-high, high) if summary.signed else (0.0, high), signed=summary.signed, opacity=opacity,
        unit=summary.unit,
    )  # fmt: skip


def _meaning(summary: Attribution) -> str:
    words = methods()[summary.method].meaning
    ways = " Red speaks for the target, blue against it." if summary.signed else ""
    return f"{words}{ways}"


def patches(summary: Attribution, result: state.Result) -> Patches | None:
    """Where the patches of a map lie, on the slide and on the MRI."""
    if summary.patch_xy is None or not summary.patch_size_px:
        return None
    present = reading.patches(result)
    same = present is not None and np.array_equal(present.xy, summary.patch_xy)
    return present if same else Patches(xy=summary.patch_xy, size_px=float(summary.patch_size_px))


def alike(one: Attribution, other: Attribution) -> dict[str, float]:
    """Rank correlation of two maps of one case, by modality, on at most 200,000 places; flat maps are left out."""
    found = {}
    for name in sorted(set(one.maps) & set(other.maps)):
        a, b = one.maps[name].ravel(), other.maps[name].ravel()
        if a.shape != b.shape:
            continue
        step = max(1, a.size // 200_000)
        value = spearman(np.ascontiguousarray(a[::step]), np.ascontiguousarray(b[::step]))
        if value is not None:
            found[name] = value
    return found


def files(summary: Attribution, case: Case, below: Path) -> bytes:
    """The map as a zip of NIfTI, GeoJSON, NPZ, PNG and JSON; no file name says whose it is."""
    from cmssd_core.report import attribution_files as export

    folder = Path(tempfile.mkdtemp(dir=below))
    try:
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in export.write(summary, case, folder / "map"):
                archive.write(path, path.name)
        return packed.getvalue()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
