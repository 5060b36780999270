"""Which cases a model can be trained on, and how many of them teach each of its tasks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.cohort import table as cohorts
from cmssd_core.models.base import Model
from cmssd_core.models.spec import Spec, VolumeSpec
from cmssd_core.tasks.table import TASKS
from cmssd_core.training import samples
from cmssd_core.types import Input, InputError
from cmssd_core.volume.contrasts import CONTRASTS


def keep_readable(rows: pd.DataFrame, kind: type[Model], spec: Spec, *, refuse: bool = True) -> pd.DataFrame:
    """The rows that hold all the model cannot do without and something it reads.

    A row with an examination of other contrasts than the model's alone is no such row: it is not to be taken for one
    without an examination. Raises InputError, unless not to `refuse`, where no row is left.
    """

    def has(columns: Collection[str]) -> pd.Series[bool]:
        found: pd.Series[bool] = rows[[column for column in columns if column in rows]].notna().any(axis=1)
        return found

    given = {name: has(MODALITIES[name].columns) for name in kind.needs}
    present = {name: has(_columns(name, spec)) for name in kind.needs}
    needed = [present[name] for name in kind.needs if name not in kind.optional]
    kept = pd.concat(present.values(), axis=1).any(axis=1)
    for column in needed:
        kept &= column
    for name in kind.needs:
        kept &= present[name] | ~given[name]
    if refuse and not kept.any():
        names = [name for name in kind.needs if name not in kind.optional] or list(kind.needs)
        expected = " and ".join(MODALITIES[name].noun for name in names)
        raise InputError(f"no training case has what the model reads; expected {expected}; fill in its column")
    return rows[kept]


def _columns(name: str, spec: Spec) -> tuple[str, ...]:
    """The columns of a modality that a model of this spec reads."""
    one = spec[name]
    return (
        tuple(CONTRASTS[c].column for c in one.contrasts) if isinstance(one, VolumeSpec) else MODALITIES[name].columns
    )


def count_truths(paths: list[Path], kind: type[Model]) -> dict[str, int]:
    """How many prepared cases teach each task of the model. Raises InputError for a task that none teaches."""
    known = [samples.known_tasks(path) for path in paths]
    counts = {name: sum(name in one for one in known) for name in kind.tasks}
    missing = [TASKS[name].label for name, count in counts.items() if not count]
    if missing:
        raise InputError(
            f"no training case has a truth for {' and '.join(missing)}, which this model answers; expected masks, "
            "labels or events in the cohort; fill in their columns, or choose another model"
        )
    return counts


def fit_spec(model: Model, rows: pd.DataFrame, root: Path) -> None:
    """What a spec takes from the training patients, such as the mean of each gene."""
    spec = dict(model.spec)
    for name, one in spec.items():
        fit = MODALITIES[name].fit
        if fit is not None:
            columns = [column for column in MODALITIES[name].columns if column in rows]
            having = rows[rows[columns].notna().any(axis=1)]
            spec[name] = fit([_admit_one(row, root, name) for _, row in having.iterrows()], one)
    model.spec = spec


def _admit_one(row: pd.Series[Any], root: Path, name: str) -> Input:
    """One modality of a row. Raises InputError, which names the case."""
    try:
        return cohorts.admit_row(row, root, masks=False, reads=(name,)).inputs[name]
    except InputError as mistake:
        raise InputError(f"case {row['case_id']}: {mistake}") from mistake
