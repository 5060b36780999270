"""Explanations for the screen: what may be asked, attributions under the model's lock and kept, what a place says.

An attribution is kept for the session under its question, which is made of ids and frozen settings, never of arrays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from cmssd_core.config import settings
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.explain.sanity import spearman
from cmssd_core.explain.targets import TARGETS, Target
from cmssd_core.types import Attribution, BoolArray, FloatArray, InputError, Slide, Uint8Array, Volume
from dashboard import state
from dashboard.services import reading
from dashboard.services.catalogue import entries
from dashboard.services.cohort import State
from dashboard.services.model import Progress, at_work, model
from dashboard.viewers.layers import Overlay, Patches, PatchLayer

if TYPE_CHECKING:
    from cmssd_core.explain.methods import Method
    from cmssd_core.explain.modality_shapley import ModalityShares
    from cmssd_core.inference import Predictor
    from cmssd_core.whatif.change import Region

BOX_MM = 8.0  # half the edge of what is filled around a voxel
KEPT = 16  # attributions of one case a session keeps
#: Colours end where all but this share of the values lie, so that one pixel does not make all others pale.
WITHIN = 0.995
FAINT = 0.05  # of the colours' end: nearer to 0 than this the image shows through
#: Targets by the head they need; the others read the auxiliary maps, which the model tells only when asked.
_HEADS = {
    "malignant": "malignant_logit", "benign": "malignant_logit", "severity": "severity_pct", "hazard": "log_hazard",
    "tumour": "tumour_logits", "bone": "bone_logits",
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What is asked of one case. weights: None = the model in use. region: words and digest of a region, "" = none."""

    case_id: str
    method: str
    target: str = "malignant"
    region: str = ""
    weights: Path | None = None
    settings: ExplainSettings = field(default_factory=ExplainSettings)


@dataclass(frozen=True)
class Place:
    """What the model and a map say of one voxel or patch: (what, value) in words, the first the most important."""

    title: str
    said: tuple[tuple[str, str], ...]


def methods() -> Mapping[str, Method]:
    """THE table of methods."""
    from cmssd_core.explain.methods import METHODS

    return METHODS


def targets(weights: Path | None) -> dict[str, str]:
    """Targets that the model has a head for: name -> words."""
    produces = predictor(weights).model.produces
    return {name: kind.label for name, kind in TARGETS.items() if name in _HEADS and _HEADS[name] in produces}


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
    there = State.of(weights)
    if there is None:
        raise InputError(f"no weights at {weights.name}; choose another model")
    return _loaded(there)


@st.cache_resource(max_entries=3, show_spinner="Loading the model")
def _loaded(there: State) -> Predictor:
    from cmssd_core import inference

    return inference.load(Path(there.path), settings=settings())


@st.cache_resource(scope="session", max_entries=2, show_spinner=False)
def _kept(case_id: str) -> OrderedDict[Question, Attribution]:
    return OrderedDict()


def known(asked: Question) -> Attribution | None:
    """The answer, where it was computed before in this session."""
    return _kept(asked.case_id).get(asked)


def ask(asked: Question, result: state.Result, region: BoolArray | None, progress: Progress) -> Attribution:
    """Where the answer to a case comes from; computed under the model's lock unless it is known."""
    from cmssd_core.explain.methods import explain

    there = known(asked)
    if there is not None:
        return there
    chosen = predictor(asked.weights)
    with at_work(chosen.model_id, progress):
        found = explain(
            result.case, chosen, asked.method, Target(asked.target, region), settings=asked.settings,
            progress=progress, program=settings(),
        )  # fmt: skip
    kept = _kept(asked.case_id)
    kept[asked] = found
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return found


def regions(result: state.Result, voxel: tuple[int, int, int] | None, radius_mm: float) -> dict[str, BoolArray]:
    """Regions of the MRI that a target may be read in, by their words; those that are empty are left out."""
    volume, maps = result.case.inputs.get("mri"), result.prediction.maps
    if not isinstance(volume, Volume):
        return {}
    found: dict[str, BoolArray] = {}
    if "tumour" in maps:
        found["where the model sees tumour"] = maps["tumour"] >= 0.5
    if "bone" in maps:
        found["where the model sees bone"] = maps["bone"] >= 0.5
    if voxel is not None:
        found[f"a ball of {radius_mm:g} mm around the marked voxel"] = _ball(volume, voxel, radius_mm)
    for overlay in reading.truths(reading.ref(result), volume):
        found[overlay.name.lower()] = np.asarray(overlay.values, dtype=bool)
    return {words: mask for words, mask in found.items() if mask.any()}


def region_key(words: str, mask: BoolArray) -> str:
    """What tells a region from others: its words and its content."""
    return f"{words} {sha256(np.packbits(mask).tobytes()).hexdigest()[:16]}"


def _ball(volume: Volume, voxel: tuple[int, int, int], radius_mm: float) -> BoolArray:
    z, y, x = np.indices(volume.voxels.shape[1:], sparse=True)
    sx, sy, sz = volume.spacing_mm
    far = ((x - voxel[0]) * sx) ** 2 + ((y - voxel[1]) * sy) ** 2 + ((z - voxel[2]) * sz) ** 2
    return np.asarray(far <= radius_mm**2)


def limit(values: FloatArray) -> float:
    """The end of the colours of a map."""
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.quantile(size, WITHIN)) if size.size else 1.0


def overlay(told: Attribution, *, opacity: float, end: float | None = None) -> Overlay | None:
    """The map over the MRI; None where the method drew none there. end: of the colours, None = the map's own."""
    values = told.maps.get("mri")
    if values is None:
        return None
    high = (end or limit(values)) if told.method != "gate" else 1.0
    return Overlay(
        name=told.label, values=values, meaning=_meaning(told), colormap="diverging" if told.signed else "viridis",
        limits=(-high, high) if told.signed else (0.0, high), signed=told.signed, opacity=opacity,
        shown_from=0.0 if told.method == "gate" else FAINT * high, unit=told.unit,
    )  # fmt: skip


def patch_values(told: Attribution) -> FloatArray | None:
    """One value a patch: the sum of its pixels (of the gate the patch's attention); None without a slide."""
    values = told.maps.get("he")
    if values is None:
        return None
    return values.mean(axis=(1, 2)) if told.method == "gate" else values.sum(axis=(1, 2))


def patch_layer(told: Attribution, *, opacity: float, end: float | None = None) -> PatchLayer | None:
    """The map over the slide's patches; None where the method drew none there."""
    values = patch_values(told)
    if values is None:
        return None
    high = end or float(np.abs(values).max(initial=0.0)) or 1.0
    return PatchLayer(
        name=told.label, values=values, meaning=_meaning(told), colormap="diverging" if told.signed else "viridis",
        limits=(-high, high) if told.signed else (0.0, high), signed=told.signed, opacity=opacity, unit=told.unit,
    )  # fmt: skip


def _meaning(told: Attribution) -> str:
    said = methods()[told.method].meaning
    ways = " Red speaks for the target, blue against it." if told.signed else ""
    return f"{said}{ways}"


def patches(told: Attribution, result: state.Result) -> Patches | None:
    """Where the patches of a map lie, on the slide and on the MRI."""
    if told.patch_xy is None or not told.patch_size_px:
        return None
    there = reading.patches(result)
    same = there is not None and np.array_equal(there.xy, told.patch_xy)
    return there if same else Patches(xy=told.patch_xy, size_px=float(told.patch_size_px))


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


def voxel(result: state.Result, told: Attribution | None, at: tuple[int, int, int]) -> Place:
    """What is said of a voxel (x, y, z)."""
    x, y, z = at
    maps, said = result.prediction.maps, []
    for name, words in (("tumour", "probability of malignant tumour"), ("bone", "probability of bone")):
        if name in maps:
            said.append((words, f"{maps[name][z, y, x]:.3f}"))
    if "attention" in maps:
        said.append(("gate, 1 = MRI, 0 = slide", f"{maps['attention'][z, y, x]:.2f}"))
    if told is not None and "mri" in told.maps:
        value = float(told.maps["mri"][z, y, x])
        size = np.abs(told.maps["mri"])
        higher = float((size > abs(value)).mean())
        said.append((f"{told.label}, {told.unit} a pixel", f"{value:+.3g}" if told.signed else f"{value:.3g}"))
        said.append(("stronger than", f"{100 * (1 - higher):.1f} % of the voxels"))
    return Place(f"Voxel {x}, {y}, {z}", tuple(said))


def patch(result: state.Result, told: Attribution | None, number: int) -> Place:
    """What is said of a patch, counted from 0."""
    said, attention = [], result.prediction.patch_attention
    if attention is not None and number < len(attention):
        said.append(("attention, of all patches", f"{attention[number]:.2%}"))
    values = None if told is None else patch_values(told)
    if told is not None and values is not None:
        rank = int((np.abs(values) > abs(values[number])).sum()) + 1
        said.append(
            (f"{told.label}, {told.unit}", f"{values[number]:+.3g}" if told.signed else f"{values[number]:.3g}")
        )
        said.append(("rank by size", f"{rank} of {len(values)} patches"))
    return Place(f"Patch {number + 1}", tuple(said))


def patch_picture(result: state.Result, told: Attribution, number: int) -> tuple[Uint8Array, FloatArray] | None:
    """A patch as it lies on the slide, uint8 (y, x, 3), and the map's pixels over it (y, x); None without both."""
    slide, values = result.case.inputs.get("he"), told.maps.get("he")
    if not isinstance(slide, Slide) or values is None or told.patch_xy is None or not told.patch_size_px:
        return None
    if slide.mpp is None:
        return None
    x, y = (int(v) for v in told.patch_xy[number])
    mpp = slide.mpp * float(told.patch_size_px) / values.shape[1]
    return _patch(result.case.id, x, y, values.shape[1], mpp, slide), values[number]


@st.cache_resource(scope="session", max_entries=32, show_spinner=False)
def _patch(case_id: str, x: int, y: int, edge_px: int, mpp: float, _slide: Slide) -> Uint8Array:
    from cmssd_core.slide.pixels import region

    return region(_slide, xy=(x, y), size_px=(edge_px, edge_px), mpp=mpp)


def without(
    result: state.Result, voxel: tuple[int, int, int] | None, number: int | None, what: str, progress: Progress
) -> list[str]:
    """What the model in use would say with a patch taken away, or with a box around a voxel filled from around it."""
    from cmssd_core.whatif.change import FILLS, Change
    from dashboard.services import what_if

    if what == "patch":
        if number is None:
            return []
        change, done = Change(patches_off=(number,)), f"Without patch {number + 1}"
    else:
        volume = result.case.inputs.get("mri")
        if voxel is None or not isinstance(volume, Volume):
            return []
        change = Change(erased=_box_around(volume, voxel))
        done = f"With {2 * BOX_MM:g} mm around the voxel on its slice filled by {FILLS['surroundings']}"
    before, after = result.prediction, what_if.ask(result, change, progress).prediction
    lines = [f"{done}: probability of malignancy {before.p_malignant:.3f} → **{after.p_malignant:.3f}**"]
    if before.severity_pct is not None and after.severity_pct is not None:
        lines.append(f"severity {before.severity_pct:.1f} % → **{after.severity_pct:.1f} %**")
    return [", ".join(lines) + ". :small[An input that no patient has: the model was not trained on it.]"]


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


def shares(asked: Question, result: state.Result, progress: Progress) -> ModalityShares:
    """Exact Shapley share of each modality in the malignancy logit; computed under the model's lock unless known."""
    from cmssd_core.cases import collate, prepare
    from cmssd_core.explain.modality_shapley import modality_shares
    from cmssd_core.inference import moved

    kept, chosen = _kept_shares(asked.case_id), predictor(asked.weights)
    if chosen.model_id not in kept:
        with at_work(chosen.model_id, progress):
            progress(0.05, "preparing the images")
            batch = collate([prepare(result.case, spec=chosen.spec, settings=settings())], chosen.spec)
            device = next(chosen.model.parameters()).device
            kept[chosen.model_id] = modality_shares(
                chosen.model, moved(batch, device),
                before_each=lambda share: progress(0.1 + 0.9 * share, "asking the model without a modality"),
            )  # fmt: skip
    return kept[chosen.model_id]


@st.cache_resource(scope="session", max_entries=2, show_spinner=False)
def _kept_shares(case_id: str) -> dict[str, ModalityShares]:
    return {}
