"""Who trains and who tests: splits and folds by patient, stored in the cohort's table."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from cmssd_core.cohort.table import read, read_cells, write_table
from cmssd_core.types import InputError


def split_by_patient(table: pd.DataFrame, *, seed: int) -> list[str]:
    """A split name for each row: 70 / 15 / 15 by patient, stratified by malignancy where every class allows it."""
    patients = table.groupby("patient_id")["malignant"].max().sort_index().astype(float).fillna(-1.0)
    names = patients.index.to_numpy()
    if len(names) < 3:
        return ["train"] * len(table)

    def divide(who: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        label = patients.loc[who].to_numpy()
        _, counts = np.unique(label, return_counts=True)
        stratify = label if counts.min() >= 2 and min(share, 1 - share) * len(who) >= len(counts) else None
        first, second = train_test_split(who, test_size=share, random_state=seed, stratify=stratify)
        return first, second

    train, rest = divide(names, 0.30)
    val, test = divide(rest, 0.5) if len(rest) > 1 else (rest, rest[:0])
    where = dict.fromkeys(train, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    return [where[patient] for patient in table["patient_id"]]


def fold_by_patient(table: pd.DataFrame, *, folds: int, seed: int) -> list[int]:
    """A fold from 1 to `folds` for each row: by patient, stratified by malignancy, else by tissue class.

    As many folds as patients leaves one patient out at a time. Raises InputError for fewer patients than folds.
    """
    patients = table["patient_id"].unique()
    if not 2 <= folds <= len(patients):
        raise InputError(
            f"{folds} folds came for {len(patients)} patients, expected 2 to the number of patients; ask for those",
            "folds",
        )
    known = [c for c in ("malignant", "tissue_class") if c in table and table[c].notna().any()]
    label = table[known[0]].astype(str).to_numpy() if known else np.zeros(len(table))
    where = np.zeros(len(table), dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # a class with fewer patients than folds is spread as far as it goes
        if np.unique(label, return_counts=True)[1].max() >= folds:
            divider = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            for fold, (_, chosen) in enumerate(divider.split(label, label, table["patient_id"]), start=1):
                where[chosen] = fold
    if len(np.unique(where)) < folds or (where == 0).any():
        # Stratification may leave a fold empty where patients are few: then they are dealt out.
        dealt = np.random.default_rng(seed).permutation(np.sort(patients))
        number = {patient: 1 + i % folds for i, patient in enumerate(dealt)}
        return [number[patient] for patient in table["patient_id"]]
    return [int(fold) for fold in where]


def use_fold(table: pd.DataFrame, fold: int, *, val: bool = False) -> pd.DataFrame:
    """The table with `split` by its `fold` column: this fold is the test, the next one val if asked, the rest train.

    Raises InputError where the table has no such fold, or val is asked of fewer than three.
    """
    folds = sorted(int(f) for f in table["fold"].dropna().unique()) if "fold" in table else []
    if fold not in folds:
        raise InputError(
            f"fold {fold} came, the cohort has {folds or 'none'}; expected one of its folds; divide it anew", "fold"
        )
    if val and len(folds) < 3:
        raise InputError(f"a val part came with {len(folds)} folds, expected at least 3; do without it, or divide anew")
    following = folds[(folds.index(fold) + 1) % len(folds)]
    names = {f: "test" if f == fold else "val" if val and f == following else "train" for f in folds}
    return table.assign(split=table["fold"].map(names))


def fold_table(source: Path, fold: int) -> Path:
    """A cohort table `fold-N.csv` beside the cohort's own, its splits by `use_fold`, with a val part where it can."""
    table = read(source)
    path = (source / "cohort.csv" if source.is_dir() else source).with_name(f"fold-{fold}.csv")
    write_table(use_fold(table, fold, val=table["fold"].nunique() > 2), path)
    return path


def of_split(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of "test", "val" or "all"; where the table knows no splits, every row is a test row.

    Raises InputError for another name, and where no row is left.
    """
    if split not in ("test", "val", "all"):
        raise InputError(f"split {split!r} came, expected test, val or all; choose one of these", "split")
    if split == "all" or (split == "test" and table["split"].isna().all()):
        return table
    kept = table[table["split"] == split]
    if kept.empty:
        raise InputError(
            f"the cohort has no row with split = {split}, expected some; split = all takes every case, "
            "cmssd split divides it",
            "split",
        )
    return kept


def divide(source: Path, *, seed: int, folds: int | None = None, replace: bool = False) -> Path:
    """Store a 70 / 15 / 15 split and, if asked, folds in the cohort's CSV; the same seed divides it the same way.

    A split that is there stays when folds are added to it. Raises InputError where what is there would change, unless
    `replace`: weights trained on the old division may have seen the new test cases.
    """
    table = read(source)
    path = source / "cohort.csv" if source.is_dir() else source
    split = split_by_patient(table, seed=seed)
    fold = fold_by_patient(table, folds=folds, seed=seed) if folds is not None else None
    asked = ("split", split) if fold is None else ("fold", fold)
    if not replace and table[asked[0]].notna().any() and table[asked[0]].tolist() != asked[1]:
        raise InputError(
            f"{path.name} has another {asked[0]} already, expected none or this one: weights trained by the old one "
            "may have seen the new test cases; replace it to divide the cohort anew",
            "replace",
        )
    cells = read_cells(path)
    stored = cells.grid.cells.copy()  # the user's cells and names of columns stay as they are written
    if replace or table["split"].isna().all():
        stored[cells.written.get("split", "split")] = split
    if fold is not None:
        stored[cells.written.get("fold", "fold")] = fold
    write_table(stored, path)
    return path
