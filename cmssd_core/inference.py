"""From a Case to a Prediction: prepare, one forward, maps back on the case's own grid, figures, kept in the store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from cmssd_core import calibration_file, confidence, weights_file
from cmssd_core import store as storage
from cmssd_core.cases import collate, prepare, site_voxel
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.device import chosen_device
from cmssd_core.models.base import InputSpec, Model
from cmssd_core.mri.orient import radiological
from cmssd_core.mri.prepare import onto
from cmssd_core.types import (
    Batch,
    Case,
    Finding,
    FloatArray,
    ModelOutput,
    PatchBag,
    Prediction,
    SliceArea,
    Slide,
    Volume,
    frozen,
)
from cmssd_core.weights_file import WeightsInfo

PIPELINE = 4  # part of every content key; raised when the same input would give another answer
THRESHOLD = 0.5
Progress = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model ready to predict. model_id: name + hash of its weights. info: what the weights file says of itself.

    calibration: what lies beside the weights, None where nothing does; then answers are as the network gives them.
    """

    model: Model
    model_id: str
    info: WeightsInfo
    device: torch.device
    card: str
    calibration: calibration_file.Calibration | None = None

    @property
    def trained(self) -> str:
        """What the weights were trained on, in words."""
        return self.info.trained

    @property
    def spec(self) -> InputSpec:
        """How the model wants its inputs."""
        return self.info.spec


def load(weights: Path | None = None, *, settings: Settings | None = None, calibrated: bool = True) -> Predictor:
    """The predictor of a weights file; None = the one in the settings, else the shipped compact weights.

    calibrated: with the calibration that lies beside the weights, where there is one.
    """
    settings = settings or default_settings()
    path = weights or settings.weights or weights_file.DEFAULT
    model, info, model_id = weights_file.load(path)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = chosen_device(settings)
    cards = [card for card in (path.with_suffix(".md"), path.with_name("model_card.md")) if card.is_file()]
    text = cards[0].read_text(encoding="utf-8") if cards else f"No model card lies beside {path.name}."
    calibration = calibration_file.load(path, model_id) if calibrated else None
    ready = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Predictor(ready, model_id, info, device, text, calibration)


@contextlib.contextmanager
def precision(device: torch.device) -> Iterator[None]:
    """bf16 on a GPU, where it halves the time; float32 on a CPU, where it gains little. Maps agree within 0.02."""
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        yield


def predict(
    case: Case,
    predictor: Predictor,
    *,
    settings: Settings | None = None,
    store: storage.Store | None = None,
    progress: Progress | None = None,
    prepared: Callable[[], Case] | None = None,
) -> Prediction:
    """One model's answer on one case, from the store where it is known.

    progress is called with (share done, what is being done). prepared: prepares the case where `cases.prepare` is not
    to; the case's id must then tell so, as the answer is kept under it. Raises InputError where an input cannot be
    used. Not safe for two threads on one predictor: hold a lock.
    """
    settings = settings or default_settings()
    tell = progress or (lambda share, what: None)
    started = time.perf_counter()
    key = _key(case, predictor, settings)
    # An entry that an older version wrote may lack a field: then it is no answer.
    with contextlib.suppress(storage.StoreError, KeyError, TypeError):
        found = store.get(key) if store else None
        if found is not None:
            known = _from_entry(found, case)
            seconds = time.perf_counter() - started
            return _tiered(replace(known, timings_s={"cache": round(seconds, 4)}), settings)

    timings: dict[str, float] = {}
    tell(0.05, "preparing the images")
    with _timed(timings, "prepare"):
        ready = prepared() if prepared else prepare(case, spec=predictor.spec, settings=settings)
    prediction = answer(case, ready, predictor, progress=tell)
    timings |= prediction.timings_s
    timings["total"] = round(time.perf_counter() - started, 4)
    prediction = replace(prediction, timings_s=timings)
    if store is not None:
        prediction = _keep(prediction, case, store, key)
    tell(1.0, "done")
    return _tiered(prediction, settings)


def answer(case: Case, prepared: Case, predictor: Predictor, *, progress: Progress | None = None) -> Prediction:
    """The network's answer on a case that is prepared already, without tier: one forward, and maps back on the scan."""
    return answer_and_features(case, prepared, predictor, progress=progress)[0]


def answer_and_features(
    case: Case, prepared: Case, predictor: Predictor, *, progress: Progress | None = None
) -> tuple[Prediction, confidence.Features]:
    """The answer, and each encoder's features averaged over the case, by modality; "fused" where the model fuses."""
    tell = progress or (lambda share, what: None)
    timings: dict[str, float] = {}
    tell(0.5, "running the network")
    with (
        _timed(timings, "network"),
        precision(predictor.device),
        confidence.pooled(predictor.model) as seen,
    ):
        output = predictor.model(moved(collate([prepared], predictor.spec), predictor.device))
    tell(0.85, "placing the maps on the images")
    with _timed(timings, "maps"):
        prediction = _assemble(case, prepared, output, predictor)
        features = confidence.vectors({n: parts for n, parts in seen.items() if n in (*prepared.inputs, "fused")})
        if predictor.calibration is not None:
            given = "both" if len(prepared.inputs) == 2 else next(iter(prepared.inputs))
            logit = float(output.malignant_logit[0])
            grid = prepared.inputs.get("mri")
            there = grid.contrasts if isinstance(grid, Volume) else predictor.spec.contrasts
            prediction = confidence.applied(
                prediction,
                predictor.calibration,
                given=given,
                logit=logit,
                features=features,
                missing=tuple(c for c in predictor.spec.contrasts if c not in there),
            )
    return replace(prediction, timings_s=timings), features


def _key(case: Case, predictor: Predictor, settings: Settings) -> str:
    slide = case.inputs.get("he")
    return storage.key(
        pipeline=PIPELINE,
        case=case.id,
        model=predictor.model_id,
        mpp=slide.mpp if isinstance(slide, Slide) else None,
        site=slide.site_mm if isinstance(slide, Slide) else None,
        n4=settings.n4,
        stain=settings.stain_backend,
        patches=settings.max_patches,
        device=predictor.device.type,
        calibration=predictor.calibration.digest if predictor.calibration else None,
    )


@contextlib.contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[name] = round(time.perf_counter() - started, 4)


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on another device."""

    def move(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device)
        return {key: tensor.to(device) for key, tensor in value.items()} if isinstance(value, dict) else value

    return replace(batch, **{name: move(value) for name, value in vars(batch).items()})


def _assemble(case: Case, prepared: Case, output: ModelOutput, predictor: Predictor) -> Prediction:
    volume, grid, bag = case.inputs.get("mri"), prepared.inputs.get("mri"), prepared.inputs.get("he")
    maps: dict[str, FloatArray] = {}
    gate_mean = gate_at_site = None
    missing = "the model draws no maps" if isinstance(volume, Volume) else "no MRI was given, so there is no map"
    figures: dict[str, Any] = {
        "severity_pct": None,
        "severity_reason": f"{missing} to measure",
        "tumour_ml": None,
        "bone_ml": None,
        "extraosseous_ml": None,
        "slices": (),
    }
    if isinstance(volume, Volume) and isinstance(grid, Volume) and output.tumour_logits is not None:
        assert output.bone_logits is not None  # both come from one decoder
        raw = {"tumour": output.tumour_logits.float().sigmoid(), "bone": output.bone_logits.float().sigmoid()}
        cross = output.attention["cross"].float() if "cross" in output.attention else None
        if cross is not None:
            size = grid.voxels.shape[2:]
            raw["attention"] = F.interpolate(cross, size=size, mode="bilinear", align_corners=False)
        for name, values in raw.items():
            placed = onto(values[0].cpu().numpy(), grid.affine, like=volume)
            maps[name] = frozen(np.clip(placed, 0.0, 1.0).astype(np.float32))
        figures = _figures(maps["tumour"], maps["bone"], volume)
        gate_mean = None if cross is None else float(cross.mean())
        if cross is not None and isinstance(bag, PatchBag) and bag.site_mm is not None:
            stride = grid.voxels.shape[-1] // cross.shape[-1]
            gate_at_site = _gate_at(cross[0].cpu().numpy(), site_voxel(grid, bag.site_mm), stride)
    elif output.severity_pct is not None:  # a model with a severity head and no maps
        figures |= {"severity_pct": float(output.severity_pct[0]), "severity_reason": None}
    weights = output.attention.get("patch") if isinstance(bag, PatchBag) else None
    attention = None if weights is None else weights[0].float().cpu().numpy()
    p_malignant = float(output.malignant_logit[0].float().sigmoid())
    return Prediction(
        case_id=case.id,
        model_id=predictor.model_id,
        trained=predictor.trained,
        maps=maps,
        affine=volume.affine if isinstance(volume, Volume) else None,
        severity_interval=None,
        p_malignant=p_malignant,
        tier=None,
        uncertainty=None,
        patch_attention=None if attention is None else frozen(attention),
        patch_xy=bag.xy if isinstance(bag, PatchBag) else None,
        patch_size_px=bag.patches.shape[1] * bag.mpp / bag.slide_mpp if isinstance(bag, PatchBag) else None,
        gate_at_site=gate_at_site,
        gate_mean=gate_mean,
        quality=(*prepared.findings, *_disagreement(figures["severity_pct"], p_malignant)),
        steps=(*prepared.steps, f"model {predictor.model_id}"),
        timings_s={},
        **figures,
    )


def _disagreement(severity_pct: float | None, p_malignant: float) -> tuple[Finding, ...]:
    """Tumour means malignant tumour, so map and probability should say the same of a case."""
    if severity_pct is None or (severity_pct > 0) == (p_malignant >= THRESHOLD):
        return ()
    what = f"the map shows {severity_pct:.1f} % malignant tumour, the probability of malignancy is {p_malignant:.2f}"
    return (Finding("warning", f"{what}: the two disagree, trust neither", "model"),)


def _gate_at(cross: FloatArray, voxel: tuple[float, float, float], stride: int) -> float | None:
    """The gate in the cell of a (slice, y, x) voxel of the prepared grid, None outside."""
    z, y, x = round(voxel[0]), int((voxel[1] + 0.5) // stride), int((voxel[2] + 0.5) // stride)
    inside = all(0 <= v < n for v, n in zip((z, y, x), cross.shape, strict=True))
    return float(cross[z, y, x]) if inside else None


def _figures(tumour: FloatArray, bone: FloatArray, volume: Volume) -> dict[str, Any]:
    """Equation 4 and the volumes, from the maps at THRESHOLD on the source grid."""
    t, b = tumour >= THRESHOLD, bone >= THRESHOLD
    ml = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000.0
    axis = radiological(volume.affine, (t.shape[0], t.shape[1], t.shape[2])).axes[0]
    others = tuple(a for a in range(3) if a != axis)
    mm2 = ml * 1000.0 / volume.spacing_mm[2 - axis]
    areas = zip(t.sum(axis=others) * mm2, b.sum(axis=others) * mm2, strict=True)
    severity = 100.0 * float((t & b).sum()) / float(b.sum()) if b.any() else None
    return {
        "severity_pct": severity,
        "severity_reason": None if b.any() else "no bone was found on the MRI: equation 4 divides by its area",
        "tumour_ml": float(t.sum()) * ml,
        "bone_ml": float(b.sum()) * ml,
        "extraosseous_ml": float((t & ~b).sum()) * ml,
        "slices": tuple(SliceArea(i, float(ta), float(ba)) for i, (ta, ba) in enumerate(areas)),
    }


def _tiered(prediction: Prediction, settings: Settings) -> Prediction:
    if prediction.severity_pct is None:
        return prediction
    reached = [name for name, bound in settings.severity_tiers if prediction.severity_pct >= bound]
    return replace(prediction, tier=reached[-1] if reached else None)


def _keep(prediction: Prediction, case: Case, store: storage.Store, key: str) -> Prediction:
    """Keep the result, without what reading these very files said: the same bytes may come by another way."""
    arrays = dict(prediction.maps)
    for name in ("patch_attention", "patch_xy"):
        value = getattr(prediction, name)
        if value is not None:
            arrays[f"_{name}"] = value
    plain = {k: v for k, v in vars(prediction).items() if k not in ("maps", "affine", "patch_attention", "patch_xy")}
    plain["slices"] = [asdict(area) for area in prediction.slices]
    plain["quality"] = [asdict(finding) for finding in prediction.quality[len(case.findings) :]]
    plain["steps"] = list(prediction.steps[len(case.steps) :])
    try:
        store.put(key, arrays=arrays, meta=plain)
    except storage.StoreError as problem:
        note = Finding("info", f"the result could not be kept for next time: {problem}", "cache")
        return replace(prediction, quality=(*prediction.quality, note))
    return prediction


def _from_entry(entry: storage.Entry, case: Case) -> Prediction:
    meta, volume = dict(entry.meta), case.inputs.get("mri")
    meta["slices"] = tuple(SliceArea(**area) for area in meta["slices"])
    meta["quality"] = (*case.findings, *(Finding(**finding) for finding in meta["quality"]))
    meta["steps"] = (*case.steps, *meta["steps"])
    return Prediction(
        maps={name: array for name, array in entry.arrays.items() if not name.startswith("_")},
        affine=volume.affine if isinstance(volume, Volume) else None,
        patch_attention=entry.arrays.get("_patch_attention"),
        patch_xy=entry.arrays.get("_patch_xy"),
        **meta,
    )
