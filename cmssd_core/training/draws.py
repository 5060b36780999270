"""The training batches drawn from prepared cases: chosen slices and patches, windows, changed intensities and colours.

What is drawn of a case depends only on the generator given for it, whatever its company.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cmssd_core.blocks.severity import severity_pct
from cmssd_core.cases.collate import hide_modalities
from cmssd_core.cases.modalities import VOLUME
from cmssd_core.models.spec import Spec
from cmssd_core.tasks.kinds import Targets
from cmssd_core.training import augment
from cmssd_core.training.recipe import DrawSettings, Stage
from cmssd_core.training.samples import Sample
from cmssd_core.types import Batch


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What a modality's draw is given beside the sample. spoil: how badly its input is to be damaged, in [0, 1]."""

    stage: Stage
    settings: DrawSettings
    spoil: float
    rng: np.random.Generator


def draw(sample: Sample, *, stage: Stage, settings: DrawSettings, rng: np.random.Generator) -> Sample:
    """One case as a step sees it: a draw of each modality it has, and how badly each was spoilt, "spoilt.MODALITY"."""
    names = [name for name in DRAWS if f"input.{name}" in sample]
    if stage.hide is not None and not _leaves_something(names, stage.hide):
        stage = replace(stage, hide=None)
    spoil = {
        name: float(rng.uniform()) if rng.random() < settings.artefacts and stage.hide != name else 0.0
        for name in names
        if name in SPOILT
    }
    out = {name: value for name, value in sample.items() if name.startswith("label.")}
    out |= {name: sample[name] for name in ("time_months", "event") if name in sample}
    for name in names:
        out |= DRAWS[name](sample, Draw(stage=stage, settings=settings, spoil=spoil.get(name, 0.0), rng=rng))
    return out | {f"spoilt.{name}": torch.tensor(value) for name, value in spoil.items()}


def _leaves_something(names: list[str], hide: str | None) -> bool:
    """Whether a case that has these modalities still has one without `hide`; else it is shown all the same."""
    return any(name != hide for name in names)


def batch_samples(
    rows: list[Sample], ids: tuple[str, ...], *, spec: Spec, hide: str | None = None
) -> tuple[Batch, Targets]:
    """Drawn cases as one batch of the modalities of `spec`; what a case lacks is zeros, its truth NaN.

    hide: a modality that is not shown, except of a case that has nothing else.
    """
    names = [name for name in DRAWS if any(f"input.{name}" in row for row in rows)]
    inputs = {name: _stacked(rows, f"input.{name}", fill=0.0) for name in names}
    available = {name: torch.tensor([f"input.{name}" in row for row in rows]) for name in names}
    hidden = torch.tensor([_leaves_something([n for n in names if f"input.{n}" in row], hide) for row in rows])
    present = {name: available[name] & ~hidden if name == hide else available[name] for name in names}
    geometry = {
        key: _stacked(rows, key, fill=FILLS.get(key, 0.0)) for key in _keys(rows, tuple(f"{n}." for n in DRAWS))
    }
    batch = Batch(
        ids=ids,
        inputs=inputs,
        valid={name: present[name][:, None].expand(inputs[name].shape[:2]) for name in names},
        present=present,
        geometry=geometry,
    )
    batch = hide_modalities(batch, spec, *(name for name in spec if name not in names))
    masks = {key.removeprefix("mask."): _stacked(rows, key, fill=torch.nan) for key in _keys(rows, ("mask.",))}
    labels = {key.removeprefix("label."): _stacked(rows, key, fill=torch.nan) for key in _keys(rows, ("label.",))}
    followed = _keys(rows, ("event",))
    targets = Targets(
        masks=masks,
        labels=labels | _severity(rows, masks, labels, batch),
        time_months=_stacked(rows, "time_months", fill=torch.nan) if followed else None,
        event=_stacked(rows, "event", fill=torch.nan) if followed else None,
        spoilt={name: _stacked(rows, f"spoilt.{name}", fill=0.0) for name in names if name in SPOILT},
    )
    return batch, targets


def _keys(rows: list[Sample], beginnings: tuple[str, ...]) -> list[str]:
    """Names that begin so, of all rows, in the order in which they first come."""
    return list(dict.fromkeys(key for row in rows for key in row if key.startswith(beginnings)))


def _stacked(rows: list[Sample], key: str, *, fill: float) -> Tensor:
    """The tensors of all rows; one that a row lacks is full of `fill`."""
    like = next(row[key] for row in rows if key in row)
    return torch.stack([row[key] if key in row else torch.full_like(like, fill) for row in rows])


def _severity(
    rows: list[Sample], masks: dict[str, Tensor], labels: dict[str, Tensor], batch: Batch
) -> dict[str, Tensor]:
    """Equation 4 on the true masks of the very slices that are shown; the case's own label where it has no masks."""
    if not {"tumour", "bone"} <= masks.keys() or VOLUME not in batch.valid:
        return {}
    real = batch.valid[VOLUME][:, :, None, None].float()
    measured = severity_pct(masks["tumour"] * real, masks["bone"] * real)
    drawn = torch.tensor([{"mask.tumour", "mask.bone"} <= row.keys() for row in rows])
    label = labels.get("severity_pct", torch.full_like(measured, torch.nan))
    return {"severity_pct": torch.where(drawn, measured, label)}


def _draw_mri(sample: Sample, asked: Draw) -> Sample:
    stage, settings, rng = asked.stage, asked.settings, asked.rng
    volume = sample["input.mri"]
    count = len(volume)
    if stage.slices >= count:
        chosen = np.sort(np.resize(np.arange(count), stage.slices)) if stage.slices > count else np.arange(count)
    else:
        chosen = _slices(sample, rng, stage.slices)
    around = np.clip(np.stack([chosen - 1, chosen, chosen + 1], axis=1), 0, count - 1)
    names = [name for name in sample if name.startswith("mask.")]
    masks = {name: sample[name][torch.tensor(chosen)].float() for name in names}
    voxel = sample["mri.site_voxel"].clone()
    site_slice = np.flatnonzero(chosen == round(float(voxel[0])))
    site = bool(sample["mri.site_known"]) and len(site_slice) > 0 and not rng.random() < settings.site_dropout
    voxel[0] = float(site_slice[0]) if len(site_slice) else 0.0

    # A window lies around the bone; where none is drawn, around what is.
    where = next((masks[name] for name in ("mask.bone", "mask.lesion", "mask.tumour") if name in masks), None)
    top, left, edge = _window(volume[:1, 0] * 0 if where is None else where, stage.crop_px, rng)
    rows, columns = slice(top, top + edge), slice(left, left + edge)
    mri = volume[torch.tensor(around)][..., rows, columns].float()  # (slice, neighbour, contrast, y, x)
    masks = {name: mask[..., rows, columns] for name, mask in masks.items()}
    voxel[1:] -= torch.tensor([top, left])
    site = site and bool(((voxel[1:] >= 0) & (voxel[1:] < edge)).all())
    if stage.hide != VOLUME:
        mri = _changed_mri(mri, settings, asked.spoil, rng)
    if settings.mirror and rng.random() < 0.5:  # mirror the MRI; the site moves along
        mri, masks = mri.flip(-1), {name: mask.flip(-1) for name, mask in masks.items()}
        voxel[2] = mri.shape[-1] - 1 - voxel[2]
    return masks | {
        "input.mri": mri,
        "mri.spacing_mm": sample["mri.spacing_mm"],
        "mri.site_voxel": voxel if site else torch.zeros(3),
        "mri.site_known": torch.tensor(site),
    }


def _draw_he(sample: Sample, asked: Draw) -> Sample:
    stage, rng = asked.stage, asked.rng
    bag = len(sample["input.he"])
    picked = torch.tensor(
        np.arange(bag) if stage.patches == bag else rng.choice(bag, stage.patches, replace=stage.patches > bag)
    )
    he = sample["input.he"][picked].float() / 255
    if stage.hide != "he":
        he = _changed_slide(he, asked.settings, asked.spoil, rng)
    return {"input.he": he, "he.patch_mm": sample["he.patch_mm"][picked]}


def _draw_rna(sample: Sample, asked: Draw) -> Sample:
    return {"input.rna": sample["input.rna"]}


#: By modality: how a case of it is drawn; one without a row cannot be trained on.
DRAWS: dict[str, Callable[[Sample, Draw], Sample]] = {"mri": _draw_mri, "he": _draw_he, "rna": _draw_rna}
SPOILT = ("mri", "he")  # modalities that training damages
#: What stands for geometry that a case lacks, where that is not 0.
FILLS = {"mri.spacing_mm": 1.0}


def _window(bone: Tensor, wanted: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Top, left and edge in pixels of a window around a random pixel of the bone, shaken by an eighth of its edge."""
    full = bone.shape[-1]
    if not 0 < wanted < full:
        return 0, 0, full
    where = torch.nonzero(bone.any(0))
    centre = where[int(rng.integers(len(where)))].tolist() if len(where) else [full // 2, full // 2]
    corner = [int(np.clip(c - wanted // 2 + rng.integers(-wanted // 8, wanted // 8 + 1), 0, full - wanted))
              for c in centre]  # fmt: skip
    return corner[0], corner[1], wanted


def _slices(sample: Sample, rng: np.random.Generator, wanted: int) -> np.ndarray:
    """Slices for training: the biopsy's or one of its neighbours, half among those that show the lesion, or bone where
    no lesion is drawn, the rest anywhere.

    The label has no say (a lesion may be benign), so the choice gives nothing away.
    """
    count = len(sample["input.mri"])
    first: list[int] = []
    if bool(sample["mri.site_known"]):
        near = round(float(sample["mri.site_voxel"][0])) + int(rng.integers(-2, 3))
        first = [int(np.clip(near, 0, count - 1))]
    telling = next((sample[name] for name in ("mask.lesion", "mask.bone", "mask.tumour") if name in sample), None)
    shown = np.setdiff1d(np.arange(0) if telling is None else np.flatnonzero(telling.flatten(1).any(1).numpy()), first)
    take = min(len(shown), max(0, (3 * wanted + 3) // 4 - len(first)))
    first += [int(i) for i in rng.choice(shown, take, replace=False)]
    rest = np.setdiff1d(np.arange(count), first)
    return np.sort(np.array(first + [int(i) for i in rng.choice(rest, wanted - len(first), replace=False)]))


def _changed_mri(mri: Tensor, settings: DrawSettings, damage: float, rng: np.random.Generator) -> Tensor:
    """Change intensities, hide contrasts, add an artefact. A contrast that is not there (all zeros) stays zeros."""
    present = [c for c in range(mri.shape[2]) if bool(mri[:, :, c].any())]
    kept = [c for c in present if not rng.random() < settings.contrast_dropout] or [int(rng.choice(present))]
    out = torch.zeros_like(mri)
    for c in kept:
        out[:, :, c] = mri[:, :, c] * (1 + settings.gain * rng.standard_normal()) + settings.shift * (
            rng.standard_normal()
        )
    return augment.spoil_mri(out, damage, rng) if damage else out


def _changed_slide(he: Tensor, settings: DrawSettings, damage: float, rng: np.random.Generator) -> Tensor:
    """Change the colours, turn the patches, add an artefact."""
    if settings.stain:
        scale = torch.tensor(1 + settings.stain * rng.standard_normal((1, 3, 1, 1)), dtype=torch.float32)
        he = torch.exp(torch.log(he.clamp(min=1 / 255)) * scale)
    if damage:
        he = augment.spoil_slide(he, damage, rng)
    return torch.rot90(he, int(rng.integers(4)), (-2, -1)) if settings.mirror else he
