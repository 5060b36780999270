"""Prepared cases on disk, and the training batches drawn from them.

A case is prepared once (N4, z-score, stain) and kept as one safetensors file; a batch takes a few slices and patches
of each case. What is drawn for a step depends only on (seed, step), so a run that resumes draws the same.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cmssd_core.cases import collate, prepare
from cmssd_core.cohort import admit_row
from cmssd_core.config import Settings
from cmssd_core.losses import Targets
from cmssd_core.models.base import InputSpec
from cmssd_core.mri.mask import place
from cmssd_core.types import Batch, Case, InputError, Volume

Sample = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """How a training batch is drawn.

    slices, patches: taken from a case. modality_dropout: share of batches in which one modality is hidden (section
    3.3 of seed 000: 0.15). contrast_dropout: chance that a contrast of a case is hidden, one always stays.
    site_dropout: chance that a known biopsy site is hidden. gain, shift: spread of the random change of MRI
    intensities; stain: of the optical density of the slide's colours. mirror: mirror slices, turn patches.
    """

    slices: int = 4
    patches: int = 6
    modality_dropout: float = 0.15
    contrast_dropout: float = 0.25
    site_dropout: float = 0.5
    gain: float = 0.15
    shift: float = 0.2
    stain: float = 0.1
    mirror: bool = True


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
    """Prepare every row that has masks and a label into `folder`; those already there are kept. One path a row."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{case_id}.safetensors" for case_id in table["case_id"]]
    todo = [(path, row, root, spec, settings) for path, (_, row) in zip(paths, table.iterrows(), strict=True)]
    todo = [job for job in todo if not job[0].exists()]
    done = len(paths) - len(todo)
    # spawn: torch's threads do not survive a fork
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
        for _ in pool.map(_prepare_row, *zip(*todo, strict=True)) if todo else ():
            done += 1
            if progress:
                progress(done, len(paths))
    return paths


def _one_thread() -> None:
    """Set a worker up: one thread for each library, and no life without its parent."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _die_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _prepare_row(path: Path, row: pd.Series[Any], root: Path, spec: InputSpec, settings: Settings) -> None:
    case = admit_row(row, root)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(sample_of(case, prepare(case, spec=spec, settings=settings), spec), str(part))
    part.replace(path)


def sample_of(case: Case, prepared: Case, spec: InputSpec) -> Sample:
    """One prepared case as tensors, images in half precision, masks on the prepared grid.

    Raises InputError for a case without MRI, slide, label or masks: these train all heads at once.
    """
    volume, grid, truth = case.inputs.get("mri"), prepared.inputs.get("mri"), case.truth
    if not isinstance(volume, Volume) or not isinstance(grid, Volume) or "he" not in prepared.inputs:
        raise InputError("a training case came without MRI or slide; expected both; leave the row out of training")
    if truth.tumour is None or truth.bone is None or truth.malignant is None:
        raise InputError("a training case came without tumour mask, bone mask or label; fill in these columns")
    batch = collate([prepared], spec)
    return {
        "mri": batch.inputs["mri"][0, :, 1].half().contiguous(),
        "he": (batch.inputs["he"][0] * 255).round().to(torch.uint8).contiguous(),
        "tumour": torch.tensor(place(truth.tumour, volume.affine, like=grid), dtype=torch.uint8),
        "bone": torch.tensor(place(truth.bone, volume.affine, like=grid), dtype=torch.uint8),
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


def draw(
    samples: list[Sample],
    ids: tuple[str, ...],
    *,
    rng: np.random.Generator,
    settings: DrawSettings,
    hide: str | None = None,
) -> tuple[Batch, Targets]:
    """A training batch of the given cases: chosen slices and patches, changed as the settings say.

    hide: "mri" or "he" hides that modality in this batch; None leaves it to modality_dropout.
    """
    rows = [_draw_one(sample, rng, settings) for sample in samples]
    stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    present = {name: torch.ones(len(ids), dtype=torch.bool) for name in ("mri", "he")}
    if hide is None and rng.random() < settings.modality_dropout:
        hide = str(rng.choice(["mri", "he"]))
    if hide is not None:
        present[hide][:] = False
    valid = {
        "mri": torch.ones(stacked["mri"].shape[:2], dtype=torch.bool) & present["mri"][:, None],
        "he": torch.ones(stacked["he"].shape[:2], dtype=torch.bool) & present["he"][:, None],
    }
    batch = Batch(
        ids,
        {"mri": stacked["mri"], "he": stacked["he"]},
        valid,
        present | {"site": stacked["site"]},
        stacked["patch_mm"],
        stacked["site_voxel"],
        stacked["spacing_mm"],
    )
    return batch, Targets(stacked["tumour"], stacked["bone"], stacked["malignant"])


def _draw_one(sample: Sample, rng: np.random.Generator, settings: DrawSettings) -> Sample:
    count = len(sample["mri"])
    if settings.slices >= count:
        chosen = np.sort(np.resize(np.arange(count), settings.slices)) if settings.slices > count else np.arange(count)
    else:
        chosen = _slices(sample, rng, settings.slices)
    around = np.clip(np.stack([chosen - 1, chosen, chosen + 1], axis=1), 0, count - 1)
    mri = sample["mri"][torch.tensor(around)].float()  # (slice, neighbour, contrast, y, x)
    masks = {name: sample[name][torch.tensor(chosen)].float() for name in ("tumour", "bone")}
    site_slice = np.flatnonzero(chosen == round(float(sample["site_voxel"][0])))
    site = bool(sample["site"]) and len(site_slice) > 0 and not rng.random() < settings.site_dropout
    voxel = sample["site_voxel"].clone()
    voxel[0] = float(site_slice[0]) if len(site_slice) else 0.0

    bag = len(sample["he"])
    picked = torch.tensor(
        np.arange(bag) if settings.patches == bag else rng.choice(bag, settings.patches, replace=settings.patches > bag)
    )
    he, patch_mm = sample["he"][picked].float() / 255, sample["patch_mm"][picked]
    mri, he = _vary(mri, he, rng, settings)
    if settings.mirror and rng.random() < 0.5:  # mirror the MRI; the site moves along
        mri, masks = mri.flip(-1), {name: mask.flip(-1) for name, mask in masks.items()}
        voxel[2] = mri.shape[-1] - 1 - voxel[2]
    if settings.mirror:
        he = torch.rot90(he, int(rng.integers(4)), (-2, -1))
    return {
        "mri": mri, "he": he, **masks, "malignant": sample["malignant"], "patch_mm": patch_mm,
        "site_voxel": voxel if site else torch.zeros(3), "site": torch.tensor(site),
        "spacing_mm": sample["spacing_mm"],
    }  # fmt: skip


def _slices(sample: Sample, rng: np.random.Generator, wanted: int) -> np.ndarray:
    """Slices for training: the biopsy's or one of its neighbours, half among those that show bone, the rest anywhere.

    The label has no say, so the choice gives nothing away.
    """
    count = len(sample["mri"])
    first: list[int] = []
    if bool(sample["site"]):
        near = round(float(sample["site_voxel"][0])) + int(rng.integers(-2, 3))
        first = [int(np.clip(near, 0, count - 1))]
    bony = np.setdiff1d(np.flatnonzero(sample["bone"].flatten(1).any(1).numpy()), first)
    take = min(len(bony), max(0, (wanted + 1) // 2 - len(first)))
    first += [int(i) for i in rng.choice(bony, take, replace=False)]
    rest = np.setdiff1d(np.arange(count), first)
    return np.sort(np.array(first + [int(i) for i in rng.choice(rest, wanted - len(first), replace=False)]))


def _vary(mri: Tensor, he: Tensor, rng: np.random.Generator, settings: DrawSettings) -> tuple[Tensor, Tensor]:
    """Change intensities and colours; hide contrasts. A contrast that is not there (all zeros) stays zeros."""
    there = [c for c in range(mri.shape[2]) if bool(mri[:, :, c].any())]
    kept = [c for c in there if not rng.random() < settings.contrast_dropout] or [int(rng.choice(there))]
    out = torch.zeros_like(mri)
    for c in kept:
        out[:, :, c] = mri[:, :, c] * (1 + settings.gain * rng.standard_normal()) + settings.shift * (
            rng.standard_normal()
        )
    density = -torch.log(he.clamp(min=1 / 255)) * torch.tensor(
        1 + settings.stain * rng.standard_normal((1, 3, 1, 1)), dtype=torch.float32
    )
    return out, torch.exp(-density)
