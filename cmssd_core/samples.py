"""Prepared cases on disk, and the training batches drawn from them.

A case is prepared once (N4, z-score, stain) and kept as one safetensors file; a batch takes a few slices and patches
of each case. What is drawn of a case depends only on the generator given for it, whatever its company.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cmssd_core import augment
from cmssd_core import store as storage
from cmssd_core.cases import collate, prepare
from cmssd_core.cohort import admit_row, file_states
from cmssd_core.config import Settings
from cmssd_core.inference import PIPELINE
from cmssd_core.losses import Targets
from cmssd_core.models.base import InputSpec
from cmssd_core.mri.mask import place
from cmssd_core.recipe import DrawSettings, Stage
from cmssd_core.types import Batch, Case, InputError, Volume
from cmssd_core.workers import pool

Sample = dict[str, Tensor]


MAPS = ("tumour", "bone", "lesion", "destruction")


def prepare_cohort(
    table: pd.DataFrame,
    root: Path,
    folder: Path,
    *,
    spec: InputSpec,
    settings: Settings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Prepare every row that has masks and a label into `folder`; one path a row.

    A case that is there is kept where it was made of these very files in this very way, else it is made anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{case_id}.safetensors" for case_id in table["case_id"]]
    keys = [storage.key(pipeline=PIPELINE, files=file_states(row, root)) for _, row in table.iterrows()]
    todo = [
        (path, key, row, root, spec, settings)
        for path, key, (_, row) in zip(paths, keys, table.iterrows(), strict=True)
        if _key_of(path) != key
    ]
    done = len(paths) - len(todo)
    with pool(workers) as processes:
        for _ in processes.map(_prepare_row, *zip(*todo, strict=True)) if todo else ():
            done += 1
            if progress:
                progress(done, len(paths))
    return paths


def _key_of(path: Path) -> str | None:
    """What a prepared case was made of; None where it is not there, is damaged or does not say."""
    try:
        with safe_open(str(path), "pt") as stored:
            return (stored.metadata() or {}).get("made_of")
    except (OSError, SafetensorError):
        return None


def _prepare_row(path: Path, key: str, row: pd.Series[Any], root: Path, spec: InputSpec, settings: Settings) -> None:
    case = admit_row(row, root)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    sample = sample_of(case, prepare(case, spec=spec, settings=settings), spec)
    save_file(sample, str(part), metadata={"made_of": key})
    part.replace(path)


def sample_of(case: Case, prepared: Case, spec: InputSpec) -> Sample:
    """One prepared case as tensors: images in half precision, the masks it has on the prepared grid.

    Raises InputError for a case without MRI, slide, label or masks: these train all heads at once.
    """
    volume, grid, truth = case.inputs.get("mri"), prepared.inputs.get("mri"), case.truth
    if not isinstance(volume, Volume) or not isinstance(grid, Volume) or "he" not in prepared.inputs:
        raise InputError("a training case came without MRI or slide; expected both; leave the row out of training")
    if truth.tumour is None or truth.bone is None or truth.malignant is None:
        raise InputError("a training case came without tumour mask, bone mask or label; fill in these columns")
    batch = collate([prepared], spec)
    masks = {
        name: torch.tensor(place(mask, volume.affine, like=grid), dtype=torch.uint8)
        for name in MAPS
        if (mask := getattr(truth, name)) is not None
    }
    return masks | {
        "mri": batch.inputs["mri"][0, :, 1].half().contiguous(),
        "he": (batch.inputs["he"][0] * 255).round().to(torch.uint8).contiguous(),
        "malignant": torch.tensor(float(truth.malignant)),
        "patch_mm": batch.patch_mm[0],
        "site_voxel": batch.site_voxel[0],
        "site": batch.present["site"][0],
        "spacing_mm": batch.spacing_mm[0],
    }


def load(path: Path) -> Sample:
    """A prepared case. Raises InputError where the file is damaged."""
    try:
        sample: Sample = load_file(str(path))
        return sample
    except (SafetensorError, OSError):
        raise InputError(f"the prepared case {path.name} cannot be read; delete it and it is made anew") from None


def batch_of(rows: list[Sample], ids: tuple[str, ...], *, hide: str | None = None) -> tuple[Batch, Targets]:
    """Drawn cases as one batch. hide: "mri" or "he" is not shown; a map that a case lacks is NaN."""
    names = [name for name in MAPS if any(name in row for row in rows)]
    unknown = torch.full_like(rows[0]["mri"][:, 0, 0], torch.nan)
    maps = {name: torch.stack([row.get(name, unknown) for row in rows]) for name in names}
    stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name not in MAPS}
    present = {name: torch.full((len(ids),), name != hide) for name in ("mri", "he")}
    valid = {name: present[name][:, None].expand(stacked[name].shape[:2]) for name in ("mri", "he")}
    batch = Batch(
        ids,
        {"mri": stacked["mri"], "he": stacked["he"]},
        valid,
        present | {"site": stacked["site"]},
        stacked["patch_mm"],
        stacked["site_voxel"],
        stacked["spacing_mm"],
    )
    return batch, Targets(maps, stacked["malignant"], stacked["damage"])


def draw(sample: Sample, *, stage: Stage, settings: DrawSettings, rng: np.random.Generator) -> Sample:
    """One case as a step sees it: chosen slices and patches, a window of them, changed as the settings say."""
    # How badly the MRI and the slide are spoilt, in [0, 1].
    damage = [float(rng.uniform()) if rng.random() < settings.artefacts and stage.hide != m else 0.0
              for m in ("mri", "he")]  # fmt: skip
    out = _drawn_mri(sample, stage, settings, damage[0], rng)
    bag = len(sample["he"])
    picked = torch.tensor(
        np.arange(bag) if stage.patches == bag else rng.choice(bag, stage.patches, replace=stage.patches > bag)
    )
    he = sample["he"][picked].float() / 255
    if stage.hide != "he":
        he = _changed_slide(he, settings, damage[1], rng)
    fixed = {name: sample[name] for name in ("malignant", "spacing_mm")}
    return out | fixed | {"he": he, "patch_mm": sample["patch_mm"][picked], "damage": torch.tensor(damage)}


def _drawn_mri(sample: Sample, stage: Stage, settings: DrawSettings, damage: float, rng: np.random.Generator) -> Sample:
    count = len(sample["mri"])
    if stage.slices >= count:
        chosen = np.sort(np.resize(np.arange(count), stage.slices)) if stage.slices > count else np.arange(count)
    else:
        chosen = _slices(sample, rng, stage.slices)
    around = np.clip(np.stack([chosen - 1, chosen, chosen + 1], axis=1), 0, count - 1)
    masks = {name: sample[name][torch.tensor(chosen)].float() for name in MAPS if name in sample}
    site_slice = np.flatnonzero(chosen == round(float(sample["site_voxel"][0])))
    site = bool(sample["site"]) and len(site_slice) > 0 and not rng.random() < settings.site_dropout
    voxel = sample["site_voxel"].clone()
    voxel[0] = float(site_slice[0]) if len(site_slice) else 0.0

    top, left, edge = _window(masks["bone"], stage.crop_px, rng)
    rows, columns = slice(top, top + edge), slice(left, left + edge)
    mri = sample["mri"][torch.tensor(around)][..., rows, columns].float()  # (slice, neighbour, contrast, y, x)
    masks = {name: mask[..., rows, columns] for name, mask in masks.items()}
    voxel[1:] -= torch.tensor([top, left])
    site = site and bool(((voxel[1:] >= 0) & (voxel[1:] < edge)).all())
    if stage.hide != "mri":
        mri = _changed_mri(mri, settings, damage, rng)
    if settings.mirror and rng.random() < 0.5:  # mirror the MRI; the site moves along
        mri, masks = mri.flip(-1), {name: mask.flip(-1) for name, mask in masks.items()}
        voxel[2] = mri.shape[-1] - 1 - voxel[2]
    return masks | {"mri": mri, "site_voxel": voxel if site else torch.zeros(3), "site": torch.tensor(site)}


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
    count = len(sample["mri"])
    first: list[int] = []
    if bool(sample["site"]):
        near = round(float(sample["site_voxel"][0])) + int(rng.integers(-2, 3))
        first = [int(np.clip(near, 0, count - 1))]
    telling = sample.get("lesion", sample["bone"])
    shown = np.setdiff1d(np.flatnonzero(telling.flatten(1).any(1).numpy()), first)
    take = min(len(shown), max(0, (3 * wanted + 3) // 4 - len(first)))
    first += [int(i) for i in rng.choice(shown, take, replace=False)]
    rest = np.setdiff1d(np.arange(count), first)
    return np.sort(np.array(first + [int(i) for i in rng.choice(rest, wanted - len(first), replace=False)]))


def _changed_mri(mri: Tensor, settings: DrawSettings, damage: float, rng: np.random.Generator) -> Tensor:
    """Change intensities, hide contrasts, add an artefact. A contrast that is not there (all zeros) stays zeros."""
    there = [c for c in range(mri.shape[2]) if bool(mri[:, :, c].any())]
    kept = [c for c in there if not rng.random() < settings.contrast_dropout] or [int(rng.choice(there))]
    out = torch.zeros_like(mri)
    for c in kept:
        out[:, :, c] = mri[:, :, c] * (1 + settings.gain * rng.standard_normal()) + settings.shift * (
            rng.standard_normal()
        )
    return augment.spoiled_mri(out, damage, rng) if damage else out


def _changed_slide(he: Tensor, settings: DrawSettings, damage: float, rng: np.random.Generator) -> Tensor:
    """Change the colours, turn the patches, add an artefact."""
    if settings.stain:
        scale = torch.tensor(1 + settings.stain * rng.standard_normal((1, 3, 1, 1)), dtype=torch.float32)
        he = torch.exp(torch.log(he.clamp(min=1 / 255)) * scale)
    if damage:
        he = augment.spoiled_slide(he, damage, rng)
    return torch.rot90(he, int(rng.integers(4)), (-2, -1)) if settings.mirror else he
