"""From a Case to a Prediction: prepare, one forward, maps back on the case's own grid, figures, kept in the store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from cmssd_core.batches import move_batch
from cmssd_core.cases.collate import collate
from cmssd_core.cases.modalities import name_given
from cmssd_core.cases.prepare import prepare
from cmssd_core.cases.site import site_voxel
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.evaluation.metrics import THRESHOLD
from cmssd_core.inference import calibration as calibration_file
from cmssd_core.inference import confidence
from cmssd_core.inference.measure import measure_maps, measure_severity
from cmssd_core.machine import store as storage
from cmssd_core.machine.device import choose_device
from cmssd_core.models import weights as weights_file
from cmssd_core.models.base import Model
from cmssd_core.models.spec import Spec, contrasts_of
from cmssd_core.models.weights import WeightsInfo
from cmssd_core.tasks.table import TASKS
from cmssd_core.types import (
    Answer,
    Case,
    Finding,
    FloatArray,
    ModelOutput,
    PatchBag,
    Prediction,
    SliceArea,
    Slide,
    Volume,
    about,
    frozen,
)
from cmssd_core.volume.prepare import onto

PIPELINE = 6  # part of every content key; raised when the same input would give another answer
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
    def spec(self) -> Spec:
        """How the model wants its inputs."""
        return self.info.spec


def load(weights: Path | None = None, *, settings: Settings | None = None, calibrated: bool = True) -> Predictor:
    """The predictor of a weights file; None = the one in the settings, else the shipped compact weights.

    calibrated: with the calibration that lies beside the weights, where there is one.
    """
    settings = settings or default_settings()
    path = weights or settings.weights or weights_file.DEFAULT
    with about("weights"):
        model, info, model_id = weights_file.load(path)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings)
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
        confidence.collect_features(predictor.model) as seen,
    ):
        output = predictor.model(move_batch(collate([prepared], predictor.spec), predictor.device))
    tell(0.85, "placing the maps on the images")
    with _timed(timings, "maps"):
        prediction = _assemble(case, prepared, output, predictor)
        features = confidence.vectors({n: parts for n, parts in seen.items() if n in (*prepared.inputs, "fused")})
        if predictor.calibration is not None and "malignant" in output.heads:
            logit = float(output.heads["malignant"][0])
            grid = _volume(prepared)
            present = contrasts_of(predictor.spec) if grid is None else grid.contrasts
            prediction = confidence.calibrate(
                prediction,
                predictor.calibration,
                given=name_given(tuple(prepared.inputs)),
                logit=logit,
                features=features,
                missing=tuple(c for c in contrasts_of(predictor.spec) if c not in present),
            )
    return replace(prediction, timings_s=timings), features


def _key(case: Case, predictor: Predictor, settings: Settings) -> str:
    slide = next((value for value in case.inputs.values() if isinstance(value, Slide)), None)
    return storage.key(
        pipeline=PIPELINE,
        case=case.id,
        model=predictor.model_id,
        mpp=None if slide is None else slide.mpp,
        site=None if slide is None else slide.site_mm,
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


def _volume(case: Case) -> Volume | None:
    """The case's volume, raw or prepared; None where it has none."""
    return next((value for value in case.inputs.values() if isinstance(value, Volume)), None)


def _bag(case: Case) -> PatchBag | None:
    return next((value for value in case.inputs.values() if isinstance(value, PatchBag)), None)


def _assemble(case: Case, prepared: Case, output: ModelOutput, predictor: Predictor) -> Prediction:
    volume, grid, bag = _volume(case), _volume(prepared), _bag(prepared)
    maps: dict[str, FloatArray] = {}
    gate_mean = gate_at_site = None
    if volume is not None and grid is not None:
        raw = {name: head.float().sigmoid() for name, head in output.heads.items() if TASKS[name].kind.name == "map"}
        cross = output.attention["cross"].float() if "cross" in output.attention else None
        if cross is not None and raw:
            size = grid.voxels.shape[2:]
            raw["attention"] = F.interpolate(cross, size=size, mode="bilinear", align_corners=False)
            gate_mean = float(cross.mean())
            if bag is not None and bag.site_mm is not None:
                stride = grid.voxels.shape[-1] // cross.shape[-1]
                gate_at_site = _gate_at(cross[0].cpu().numpy(), site_voxel(grid, bag.site_mm), stride)
        for name, values in raw.items():
            placed = onto(values[0].cpu().numpy(), grid.affine, like=volume)
            maps[name] = frozen(np.clip(placed, 0.0, 1.0).astype(np.float32))
    figures = measure_maps(maps, volume)
    answers = {
        name: answer
        for name, head in output.heads.items()
        if (answer := TASKS[name].kind.decode(TASKS[name], head)) is not None
    }
    drawn = None not in (figures.tumour_ml, figures.bone_ml)
    if "severity_pct" in predictor.model.tasks and ("severity_pct" not in answers or drawn):
        answers["severity_pct"] = measure_severity(maps, volume)  # equation 4 on the scan's own grid
    weights = None if bag is None else output.attention.get("patch")
    attention = None if weights is None else weights[0].float().cpu().numpy()
    return Prediction(
        case_id=case.id,
        model_id=predictor.model_id,
        trained=predictor.trained,
        answers={name: answers[name] for name in TASKS if name in answers},
        maps=maps,
        affine=None if volume is None else volume.affine,
        tier=None,
        uncertainty=None,
        tumour_ml=figures.tumour_ml,
        bone_ml=figures.bone_ml,
        extraosseous_ml=figures.extraosseous_ml,
        slices=figures.slices,
        patch_attention=None if attention is None else frozen(attention),
        patch_xy=None if bag is None else bag.xy,
        patch_size_px=None if bag is None else bag.patches.shape[1] * bag.mpp / bag.slide_mpp,
        gate_at_site=gate_at_site,
        gate_mean=gate_mean,
        quality=(*prepared.findings, *_disagreement(answers)),
        steps=(*prepared.steps, f"model {predictor.model_id}"),
        timings_s={},
    )


def _disagreement(answers: Mapping[str, Answer]) -> tuple[Finding, ...]:
    """Tumour means malignant tumour, so map and probability should say the same of a case."""
    severity, malignant = answers.get("severity_pct"), answers.get("malignant")
    if severity is None or malignant is None or severity.value is None or malignant.value is None:
        return ()
    if (severity.value > 0) == (malignant.value >= THRESHOLD):
        return ()
    what = (
        f"the map shows {severity.value:.1f} % malignant tumour, the probability of malignancy is {malignant.value:.2f}"
    )
    return (Finding("warning", f"{what}: the two disagree, trust neither", "model"),)


def _gate_at(cross: FloatArray, voxel: tuple[float, float, float], stride: int) -> float | None:
    """The gate in the cell of a (slice, y, x) voxel of the prepared grid, None outside."""
    z, y, x = round(voxel[0]), int((voxel[1] + 0.5) // stride), int((voxel[2] + 0.5) // stride)
    inside = all(0 <= v < n for v, n in zip((z, y, x), cross.shape, strict=True))
    return float(cross[z, y, x]) if inside else None


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
    plain["answers"] = {name: asdict(answer) for name, answer in prediction.answers.items()}
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
    meta, volume = dict(entry.meta), _volume(case)
    meta["answers"] = {name: Answer(**answer) for name, answer in meta["answers"].items()}
    meta["slices"] = tuple(SliceArea(**area) for area in meta["slices"])
    meta["quality"] = (*case.findings, *(Finding(**finding) for finding in meta["quality"]))
    meta["steps"] = (*case.steps, *meta["steps"])
    return Prediction(
        maps={name: array for name, array in entry.arrays.items() if not name.startswith("_")},
        affine=None if volume is None else volume.affine,
        patch_attention=entry.arrays.get("_patch_attention"),
        patch_xy=entry.arrays.get("_patch_xy"),
        **meta,
    )
