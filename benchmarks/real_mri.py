"""Sarcoma MRI, one patient left out at a time: what synthetic pre-training is worth, beside none and a MONAI U-Net.

Arms: prior (the mean mask of the other patients, laid on the image's frame: what cropping around the tumour gives
away), untouched (the weights as they are), unet, scratch (CM-SSD from random weights), pretrained (CM-SSD from the
weights); and the last three again as framed-*, learning what the image adds to the frame (cmssd_core/adapted.py). All
that learn get the same slices with the same variations, and the steps they are given: 1,200, fixed beforehand, without
the frame; 150 with it, which were chosen among four numbers on the same six patients (docs/real_data.md).
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from cmssd_core import adapted, inference, segment, weights_file
from cmssd_core import cohort as cohorts
from cmssd_core.cases import prepare
from cmssd_core.config import Settings
from cmssd_core.finetune import FineTuneSettings, Scan, fine_tune
from cmssd_core.models import MODELS
from cmssd_core.models.base import InputSpec, Model
from cmssd_core.mri.mask import laid, place
from cmssd_core.types import Batch, Case, ModelOutput, Volume, frozen

FRAMED = "framed-"
LEARNING = ("unet", "scratch", "pretrained")
ARMS = ("prior", "untouched", *LEARNING, *(FRAMED + arm for arm in LEARNING))
COLUMNS = ("dice", "dice_image_alone", "dice_off_centre")
CUT_MM = 8.0  # what an off-centre cut leaves beside the tumour
#: A U-Net by others on the same patients (MONAI, 2.5-D, 1,200 steps of 8 slices): mean over five held-back patients.
KNOWN_UNET = 0.57


class UNet(Model):
    """MONAI's residual U-Net on a slice and its neighbours, one contrast; MONAI is needed for this benchmark alone."""

    needs: ClassVar[tuple[str, ...]] = ("mri",)
    optional: ClassVar[tuple[str, ...]] = ()
    produces: ClassVar[tuple[str, ...]] = ("tumour_logits",)
    sizes: ClassVar[tuple[str, ...]] = ("compact",)

    def __init__(self, spec: InputSpec, contrast: str) -> None:
        super().__init__()
        from monai.networks.nets import UNet as MonaiUNet

        self.spec = spec
        self.channel = spec.contrasts.index(contrast)
        self.network = MonaiUNet(2, 3, 1, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="instance")

    def forward(self, batch: Batch) -> ModelOutput:
        mri = batch.inputs["mri"]
        logits = self.network(mri[:, :, :, self.channel].flatten(0, 1)).unflatten(0, mri.shape[:2])[:, :, 0]
        return ModelOutput(logits, None, mri.new_zeros(len(mri)), None)


def cases_of(folder: Path) -> dict[str, Case]:
    """The patients of a folder of image and mask pairs, by name."""
    table = segment.pairs(folder)
    return {str(row["case_id"]): cohorts.admit_row(row, folder) for _, row in table.iterrows()}


def scan_of(case: Case, spec: InputSpec, program: Settings, *, frame: np.ndarray | None = None) -> Scan:
    """A case as fine-tuning takes it: its one contrast, its mask and what its frame says on the prepared grid."""
    volume, truth = case.inputs["mri"], case.truth.tumour
    grid = prepare(replace(case, inputs={"mri": volume}), spec=spec, settings=program).inputs["mri"]
    assert isinstance(volume, Volume)
    assert isinstance(grid, Volume)
    assert truth is not None
    mask = place(truth, volume.affine, like=grid)
    known = np.zeros(mask.shape, np.float32)
    if frame is not None:
        odds = adapted.log_odds(adapted.stretched(frame, truth.shape))
        known = laid(odds, volume.affine, like=grid, outside=float(odds.min()))
    return Scan(torch.tensor(np.array(grid.voxels[0])), torch.tensor(mask), torch.tensor(known))


def framed_scans(cases: list[Case], spec: InputSpec, program: Settings) -> list[Scan]:
    """Scans with what the frame of the other cases says of each: of its own mask a scan must know nothing."""
    masks = [case.truth.tumour for case in cases]
    frames = [adapted.frame_of([m for m in masks if m is not own]) for own in masks]
    return [scan_of(case, spec, program, frame=frame) for case, frame in zip(cases, frames, strict=True)]


def off_centre(case: Case) -> Case:
    """The case with its image cut close to the tumour on two sides, so that the tumour no longer lies in the middle."""
    volume, truth = case.inputs["mri"], case.truth.tumour
    assert isinstance(volume, Volume)
    assert truth is not None
    _, ys, xs = np.nonzero(truth)
    y = max(0, int(ys.min() - CUT_MM / volume.spacing_mm[1]))
    x = max(0, int(xs.min() - CUT_MM / volume.spacing_mm[0]))
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([x, y, 0])
    cut = Volume(frozen(volume.voxels[:, :, y:, x:].copy()), frozen(affine), volume.contrasts)
    mask = frozen(truth[:, y:, x:].copy())
    return replace(case, id=f"{case.id}-cut", inputs={"mri": cut}, truth=replace(case.truth, tumour=mask))


def start(arm: str, weights: Path, contrast: str, seed: int) -> tuple[Model, str]:
    """The network an arm starts from, and what it is."""
    given, info, model_id = weights_file.load(weights)
    if arm in ("pretrained", "untouched"):
        return given, model_id
    torch.manual_seed(seed)
    if arm == "unet":
        return UNet(info.spec, contrast), "monai-unet"
    fresh = MODELS[info.model](info.size)
    fresh.spec = info.spec
    return fresh, f"{info.name}-random"


def one_fold(
    arm: str, held: str, cases: dict[str, Case], weights: Path, settings: FineTuneSettings, program: Settings
) -> dict[str, Any]:
    """Train an arm on all patients but one, and score it on that one."""
    began = time.perf_counter()
    others = [case for name, case in cases.items() if name != held]
    case, cut = cases[held], off_centre(cases[held])
    contrast = case.inputs["mri"].contrasts[0]
    curve: list[float] = []
    found: dict[str, Any] = {"arm": arm, "patient": held, "trained_on": [name for name in cases if name != held]}
    frame = adapted.frame_of([other.truth.tumour for other in others])
    left = adapted.Adapted(frame=frame, contrast=contrast, learned_from=(), model_id="-")
    if arm == "prior":
        best = max(np.arange(0.2, 0.8, 0.1), key=lambda t: np.mean([_prior_dice(o, others, t) for o in others]))
        maps = {"": adapted.stretched(frame, case.truth.tumour.shape) / (2 * best)}
        found["started_from"] = "none"
    else:
        framed, plain = arm.startswith(FRAMED), arm.removeprefix(FRAMED)
        model, found["started_from"] = start(plain, weights, contrast, settings.seed)
        if arm != "untouched":
            spec = model.spec
            scans = framed_scans(others, spec, program) if framed else [scan_of(o, spec, program) for o in others]
            drawer = segment.drawer(model, contrast=contrast)
            curve = fine_tune(model, drawer, scans, settings=settings, progress=_tell(arm, held))
        info = weights_file.WeightsInfo(model="-", size="-", trained="-", spec=model.spec)
        predictor = inference.Predictor(model.eval(), "-", info, next(model.parameters()).device, "")
        seen = {
            name: segment.tumour_map(each, predictor, program=program, mirrored=True)
            for name, each in {"": case, "_off_centre": cut}.items()
        }
        maps = dict(seen)
        if framed:
            for name in seen:
                maps[name] = adapted.joined(seen[name], left.known(seen[name].shape))
            maps["_image_alone"] = seen[""]
            maps["_image_alone_off_centre"] = seen["_off_centre"]
    for suffix, probability in maps.items():
        target = cut if suffix.endswith("_off_centre") else case
        mask = segment.mask_of(probability, settings=segment.SegmentSettings())
        scores = segment.overlap(mask, target.truth.tumour, target.inputs["mri"])
        found |= {f"{name}{suffix}": value for name, value in scores.items()}
    found["seconds"] = time.perf_counter() - began
    found["loss"] = [float(np.mean(curve[i : i + 50])) for i in range(0, len(curve), 50)]
    return found | {"settings": asdict(settings)}


def _prior_dice(case: Case, others: list[Case], threshold: float) -> float:
    frame = adapted.frame_of([other.truth.tumour for other in others if other is not case])
    return segment.dice(adapted.stretched(frame, case.truth.tumour.shape) >= threshold, case.truth.tumour)


def _tell(arm: str, held: str) -> Any:
    began = time.perf_counter()

    def tell(step: int, of: int, loss: float) -> None:
        if step % 50 == 0 or step == of:
            each = (time.perf_counter() - began) / step
            print(f"  {arm} without {held}: step {step} of {of}, loss {loss:.3f}, {each:.2f} s a step", flush=True)

    return tell


def run(
    data: Path, weights: Path, out: Path, *, arms: list[str], patients: list[str], settings: FineTuneSettings
) -> None:
    """Every fold that has no result yet; one JSON a fold."""
    program = Settings(device="cpu")
    cases = cases_of(data)
    model_id = weights_file.load(weights)[2]
    for arm in arms:
        for held in patients or list(cases):
            path = fold_file(out, arm, model_id, settings, held)
            if path.exists():
                continue
            found = one_fold(arm, held, cases, weights, settings, program)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
            part.replace(path)
            print(f"{arm:<11}{held:<9} Dice {found['dice']:.3f}  {found['seconds']:.0f} s", flush=True)


def fold_file(out: Path, arm: str, model_id: str, settings: FineTuneSettings, held: str) -> Path:
    """Where a fold's result lies: another start, budget or seed gets another folder."""
    start_of = model_id if arm.removeprefix(FRAMED) in ("pretrained", "untouched") else "any"
    budget = {"prior": "mirrored", "untouched": "0"}.get(arm, f"{settings.steps}x{settings.slices}")
    seed = 0 if arm in ("prior", "untouched") else settings.seed
    return out / "mri" / f"{arm}-{start_of}-{budget}-seed{seed}" / f"{held}.json"


def table(out: Path) -> str:
    """Every arm with a result, patient by patient, and differences between arms on the same patients."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(out.glob("mri/*/*.json")):
        found.setdefault(path.parent.name, {})[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    if not found:
        return "no fold is there yet"
    patients = sorted({name for arm in found.values() for name in arm})
    lines = [
        "| arm | " + " | ".join(patients) + " | mean Dice | image alone | cut off-centre | HD95 mm |",
        "|---" * (len(patients) + 5) + "|",
    ]
    for name, arm in found.items():
        cells = [f"{arm[p]['dice']:.2f}" if p in arm else "" for p in patients]
        means = [_mean([f[key] for f in arm.values() if key in f]) for key in COLUMNS]
        distance = np.mean([f["hd95_mm"] for f in arm.values()])
        lines.append(f"| {name} | " + " | ".join([*cells, *means, f"{distance:.0f}"]) + " |")
    lines += [
        "",
        f"A MONAI U-Net by others, trained alike, scored {KNOWN_UNET} on average over five of these patients.",
    ]
    taught = [name for name in found if name.removeprefix(FRAMED).startswith("pretrained")]
    for one in taught:
        for other in found:
            both = sorted(set(found[one]) & set(found[other]))
            if other != one and len(both) > 2:
                gaps = [found[one][p]["dice"] - found[other][p]["dice"] for p in both]
                lines.append(f"{one} less {other}: {_mean(gaps, low=-1)} over {len(both)} patients")
    return "\n".join(lines)


def _mean(values: list[float], low: float = 0.0) -> str:
    if not values:
        return ""
    figure = segment.patient_mean(values, low=low)
    interval = "" if figure.low is None else f" ({figure.low:.2f} to {figure.high:.2f})"
    return f"{figure.value:.2f}{interval}"


def adapt(data: Path, weights: Path, to: Path, *, settings: FineTuneSettings) -> None:
    """Weights fine-tuned on every patient of a folder, and beside them what else they left (cmssd_core/adapted.py)."""
    cases = list(cases_of(data).values())
    model, info, model_id = weights_file.load(weights)
    contrast = cases[0].inputs["mri"].contrasts[0]
    program = Settings(device="cpu")  # prepared as `cmssd evaluate` will prepare what comes later
    scans = framed_scans(cases, model.spec, program)
    fine_tune(
        model, segment.drawer(model, contrast=contrast), scans, settings=settings, progress=_tell("adapted", "nobody")
    )
    words = (
        f"{model_id}, then the {contrast} of {len(cases)} real sarcomas; draws a tumour, says nothing of malignancy; "
    )
    weights_file.save(model, to, info=replace(info, trained=words + "research use only"))
    masks = [case.truth.tumour for case in cases]
    left = adapted.Adapted(
        frame=adapted.frame_of(masks),
        contrast=contrast,
        learned_from=tuple(adapted.fingerprint(mask) for mask in masks),
        model_id=weights_file.load(to)[2],
    )
    adapted.save(left, adapted.path_of(to))
