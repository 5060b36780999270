"""Prepared cases on disk: each once, with what the model reads of it and what is known of it.

A case is prepared once (N4, z-score, stain) and kept as one safetensors file; draws.py takes a few slices and patches
of it for a batch. Its tensors: "input.MODALITY", "mask.NAME", "label.NAME", "time_months", "event", and geometry by
name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cmssd_core.cases.collate import collate
from cmssd_core.cases.modalities import VOLUME
from cmssd_core.cases.prepare import prepare
from cmssd_core.cohort.table import admit_row, file_states
from cmssd_core.config import Settings
from cmssd_core.inference.predict import PIPELINE
from cmssd_core.machine import store as storage
from cmssd_core.machine.atomic import make_folder, write_atomic
from cmssd_core.machine.workers import pool
from cmssd_core.models.spec import Spec
from cmssd_core.tasks.table import TASKS
from cmssd_core.types import Case, InputError, Volume
from cmssd_core.volume.mask import place

Sample = dict[str, Tensor]
CENTRE = 1  # of the neighbours slice before, this, after: the others are other slices' centres


def prepare_cohort(
    table: pd.DataFrame,
    root: Path,
    folder: Path,
    *,
    spec: Spec,
    settings: Settings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Prepare every row into `folder`; one path a row.

    A case that is there is kept where it was made of these very files in this very way, else it is made anew.
    """
    make_folder(folder)
    paths = [folder / f"{case_id}.safetensors" for case_id in table["case_id"]]
    keys = [
        storage.key(pipeline=PIPELINE, files=file_states(row, root, reads=tuple(spec))) for _, row in table.iterrows()
    ]
    todo = [
        (path, key, row, root, dict(spec), settings)
        for path, key, (_, row) in zip(paths, keys, table.iterrows(), strict=True)
        if _metadata(path).get("made_of") != key
    ]
    done = len(paths) - len(todo)
    with pool(workers) as processes:
        for _ in processes.map(_prepare_row, *zip(*todo, strict=True)) if todo else ():
            done += 1
            if progress:
                progress(done, len(paths))
    return paths


def known_tasks(path: Path) -> frozenset[str]:
    """The tasks that a prepared case's truth teaches."""
    return frozenset(json.loads(_metadata(path).get("knows", "[]")))


def _metadata(path: Path) -> Mapping[str, str]:
    """What a prepared case says of itself; nothing where it is not there or is damaged."""
    try:
        with safe_open(str(path), "pt") as stored:
            return stored.metadata() or {}
    except (OSError, SafetensorError):
        return {}


def _prepare_row(path: Path, key: str, row: pd.Series[Any], root: Path, spec: Spec, settings: Settings) -> None:
    case = admit_row(row, root, reads=tuple(spec))
    sample = make_sample(case, prepare(case, spec=spec, settings=settings), spec)
    knows = [name for name, task in TASKS.items() if task.kind.knows(task, case.truth)]
    about = {"made_of": key, "knows": json.dumps(knows)}
    write_atomic(path, lambda part: save_file(sample, str(part), metadata=about))


def make_sample(case: Case, prepared: Case, spec: Spec) -> Sample:
    """One prepared case as tensors: images in half precision, the masks it has on the prepared grid, its labels."""
    batch = collate([prepared], spec)
    volume, grid = case.inputs.get(VOLUME), prepared.inputs.get(VOLUME)
    sample: Sample = {name: value[0].contiguous() for name, value in batch.geometry.items()}
    for name, given in batch.inputs.items():
        sample[f"input.{name}"] = KEEPS.get(name, _whole)(given[0]).contiguous()
    if isinstance(volume, Volume) and isinstance(grid, Volume):
        for name, mask in case.truth.masks.items():
            sample[f"mask.{name}"] = torch.tensor(place(mask, volume.affine, like=grid), dtype=torch.uint8)
    sample |= {f"label.{name}": torch.tensor(float(value)) for name, value in case.truth.labels.items()}
    if case.truth.survival is not None:
        sample["time_months"] = torch.tensor(case.truth.survival.time_months)
        sample["event"] = torch.tensor(float(case.truth.survival.event))
    return sample


def _whole(given: Tensor) -> Tensor:
    return given


#: How the input of a modality is kept on disk.
KEEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "mri": lambda slices: slices[:, CENTRE].half(),
    "he": lambda patches: (patches * 255).round().to(torch.uint8),
}


def load(path: Path) -> Sample:
    """A prepared case. Raises InputError where the file is damaged."""
    try:
        sample: Sample = load_file(str(path))
        return sample
    except (SafetensorError, OSError):
        raise InputError(f"the prepared case {path.name} cannot be read; delete it and it is made anew") from None
