"""cohort.csv and Cases: one row a case, paths relative to the file, empty = missing; splits by patient."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import SimpleITK as sitk
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from cmssd_core.cases import admit
from cmssd_core.leakage import image_files, refuse_leaks
from cmssd_core.mri.mask import read_mask
from cmssd_core.types import BoolArray, Case, InputError, Truth, Volume
from cmssd_core.whole import write_whole

MRI_COLUMNS = {"mri_t1": "t1", "mri_t2": "t2", "mri_stir": "stir", "mri_adc": "adc", "ct": "ct", "pet": "pet"}
MASK_COLUMNS = ("tumour_mask", "bone_mask", "lesion_mask", "cortical_destruction_mask", "osteoid_mask")
#: Columns that name a file.
FILES = ("slide", *MRI_COLUMNS, *MASK_COLUMNS)
COLUMNS = (
    "case_id", "patient_id", *MRI_COLUMNS, "slide", "slide_mpp", "site_x_mm", "site_y_mm", "site_z_mm", "rna",
    "malignant", "severity_pct", "tissue_class", *MASK_COLUMNS, "event", "time_months", "age_years", "sex", "centre",
    "scanner", "field_t", "te_ms", "tr_ms", "coil", "split", "fold",
)  # fmt: skip
SPLITS = ("train", "val", "test")
LOST_SHARE = 0.15  # of a mask's volume; nearest neighbour on a coarser grid changes less
SITE_COLUMNS = ("site_x_mm", "site_y_mm", "site_z_mm")
ANY = (-np.inf, np.inf, "a finite number")
#: Columns of numbers: lowest and highest value, and what is expected in words.
NUMBERS = {
    "slide_mpp": (np.nextafter(0.0, 1.0), np.inf, "a number of microns per pixel above 0"),
    **dict.fromkeys(SITE_COLUMNS, (-np.inf, np.inf, "a finite number of millimetres")),
    "severity_pct": (0.0, 100.0, "a number of percent from 0 to 100"),
    "time_months": (0.0, np.inf, "a number of months from 0 on"),
    "age_years": (0.0, np.inf, "a number of years from 0 on"),
    **dict.fromkeys(("malignant", "event", "field_t", "te_ms", "tr_ms"), ANY),
    "fold": (1, np.inf, "a whole number of a fold from 1 on"),
}


def read(source: Path) -> pd.DataFrame:
    """The table of a cohort from its folder or its CSV, every column of COLUMNS present, one row a case.

    Columns of NUMBERS are floats, NaN where a cell is empty; tissue_class is free text. A table of tiles (every row a
    slide and its tissue_class) may leave out case_id: the files' names then serve. Raises InputError naming the row
    (the header is row 1), the column and the repair of the first thing wrong, leakage between splits or folds included.
    """
    path = source / "cohort.csv" if source.is_dir() else source
    if not path.is_file():
        raise InputError(f"{source.name} holds no cohort.csv; expected a cohort folder or its CSV; check the path")
    try:
        # Blank lines are kept for now, so that a row has the number it has in the file.
        table = pd.read_csv(path, dtype=dict.fromkeys(COLUMNS, str), skip_blank_lines=False)
    except (ValueError, OSError) as problem:
        words = " ".join(str(problem).split())
        raise InputError(f"{path.name} is not a CSV table ({words}); expected columns {COLUMNS[:3]}...") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(f"{path.name} has rows with more cells than its header; expected a name for each; mend it")
    table = with_names(table.dropna(how="all"))
    if "case_id" not in table or table.empty:
        raise InputError(f"{path.name} has no rows with a case_id; expected one row a case; add them")
    table = table.reindex(columns=[*table.columns, *(column for column in COLUMNS if column not in table)])
    _check_cells(table, path)
    table["patient_id"] = table["patient_id"].fillna(table["case_id"])
    for column in NUMBERS:
        table[column] = _numbers(table[column])
    root = os.fspath(path.parent)
    for column in FILES:
        for row, name in table[column].dropna().items():
            if not os.path.exists(os.path.join(root, name)):
                raise InputError(f"{_place(path, row, column)}: no file {name}; mend the path or empty it")
    refuse_leaks(
        table,
        path.parent,
        slides=["slide"],
        images=list(MRI_COLUMNS),
        place=lambda row, column: _place(path, row, column),
    )
    return table.reset_index(drop=True)


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """The table; one of tiles (every row a slide and its tissue_class) without case_id has the files' names for it."""
    tiles = {"slide", "tissue_class"} <= set(table.columns)
    if "case_id" in table or not tiles or table[["slide", "tissue_class"]].isna().any(axis=None):
        return table
    return table.assign(case_id=[name_of(str(name)) for name in table["slide"]])


def name_of(path: str) -> str:
    """A case_id made from a file's name: what is none of letters, digits, '_', '.' and '-' becomes '-'."""
    stem = Path(path).name
    for ending in (".nii.gz", Path(stem).suffix):
        if ending and stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
            break
    return re.sub(r"[^\w.-]+", "-", stem).strip(".") or "case"


def _numbers(came: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_numeric(came, errors="coerce").astype(float)


def _number_column(name: str) -> pa.Column:
    """Numbers within the bounds of NUMBERS, as they stand in the file."""
    low, high, expected = NUMBERS[name]

    def fit(came: pd.Series[Any]) -> pd.Series[bool]:
        value = _numbers(came)
        if name in ("malignant", "event"):
            return value.isin([0, 1])
        whole = value % 1 == 0 if name == "fold" else True
        inside: pd.Series[bool] = value.between(low, high) & np.isfinite(value) & whole
        return inside

    words = "0 or 1" if name in ("malignant", "event") else expected
    return pa.Column(None, pa.Check(fit, error=CELL + words + MEND), nullable=True)


def _site_check(column: str) -> pa.Check:
    def whole(table: pd.DataFrame) -> pd.Series[bool]:
        known = table[list(SITE_COLUMNS)].notna()
        return known[column] | ~known.any(axis=1)

    words = "all three coordinates of a site or none; fill in the cell or empty the other two"
    return pa.Check(whole, error=CELL + words, name=column)


CELL, MEND = "{place}: {cell} came, expected ", "; mend the cell or empty it"
#: What each cell of a cohort.csv must be, as text; the sentence a broken cell earns is its check's error.
SCHEMA = pa.DataFrameSchema(
    {
        "case_id": pa.Column(
            None,
            [
                pa.Check(
                    lambda came: came.str.fullmatch(r"[\w.-]+", na=False) & ~came.isin([".", ".."]),
                    error=CELL + "a name of letters, digits, '_', '.' and '-'; rename the case",
                    ignore_na=False,
                ),
                pa.Check(lambda came: ~came.duplicated(), error="{row}: case_id {cell} is there twice; rename one"),
            ],
            nullable=True,
        ),
        **{name: _number_column(name) for name in NUMBERS},
        "split": pa.Column(
            None,
            pa.Check(lambda came: came.isin(SPLITS), error=CELL + f"one of {', '.join(SPLITS)}" + MEND),
            nullable=True,
        ),
    },
    checks=[_site_check(column) for column in SITE_COLUMNS],
)


def _check_cells(table: pd.DataFrame, path: Path) -> None:
    """Raises InputError for the first cell that SCHEMA refuses."""
    try:
        SCHEMA.validate(table)
    except pa.errors.SchemaError as found:
        row = found.failure_cases["index"].min()
        column = found.schema.name or found.check.name
        cell = table.loc[row, column]
        words = {
            "row": f"{path.name}, row {int(row) + 2}",
            "place": _place(path, row, column),
            "cell": "nothing" if pd.isna(cell) else repr(str(cell)),
        }
        raise InputError(found.check.error.format(**words)) from None


def _place(path: Path, row: Any, column: str) -> str:
    return f"{path.name}, row {int(row) + 2}, column {column}"


def file_states(row: Mapping[str, Any] | pd.Series[Any], root: Path) -> list[str]:
    """Of each file that a row names, size and time of change of all it consists of: another image, another text."""
    named = [(column, root / str(row[column])) for column in FILES if column in row and pd.notna(row[column])]
    stats = [[file.stat() for file in image_files(path, slide=column == "slide")] for column, path in named]
    return [" ".join(f"{stat.st_size} {stat.st_mtime_ns}" for stat in several) for several in stats]


def admit_row(row: pd.Series[Any], root: Path, *, masks: bool = True) -> Case:
    """One row of a cohort as a Case; `root` is the folder of its cohort.csv. Masks are read only if asked for."""
    there = {str(key): value for key, value in row.items() if pd.notna(value)}
    site = [there.get(column) if "slide" in there else None for column in SITE_COLUMNS]
    case = admit(
        contrasts={name: root / str(there[column]) for column, name in MRI_COLUMNS.items() if column in there},
        he=root / str(there["slide"]) if "slide" in there else None,
        mpp=float(there["slide_mpp"]) if {"slide", "slide_mpp"} <= there.keys() else None,
        site_mm=None if None in site else (float(str(site[0])), float(str(site[1])), float(str(site[2]))),
    )
    volume = case.inputs.get("mri")
    mask: dict[str, BoolArray] = {}
    if masks and isinstance(volume, Volume):
        known = [column for column in MASK_COLUMNS if column in there and column != "osteoid_mask"]
        mask = {column: _mask(root / str(there[column]), column, like=volume) for column in known}
    truth = Truth(
        tumour=mask.get("tumour_mask"),
        bone=mask.get("bone_mask"),
        lesion=mask.get("lesion_mask"),
        destruction=mask.get("cortical_destruction_mask"),
        malignant=bool(there["malignant"]) if "malignant" in there else None,
        severity_pct=float(there["severity_pct"]) if "severity_pct" in there else None,
        event=bool(there["event"]) if "event" in there else None,
        time_months=float(there["time_months"]) if "time_months" in there else None,
    )
    return replace(case, truth=truth)


def _mask(path: Path, column: str, *, like: Volume) -> BoolArray:
    """A mask on the grid of its image. Raises InputError where a part of it would be lost there."""
    try:
        mask = read_mask(path, like=like)
    except InputError as reason:
        raise InputError(f"column {column}: {reason}") from None
    image = sitk.ReadImage(str(path))
    voxel_ml = [float(np.prod(spacing)) / 1000.0 for spacing in (image.GetSpacing(), like.spacing_mm)]
    drawn, kept = int((sitk.GetArrayViewFromImage(image) != 0).sum()) * voxel_ml[0], int(mask.sum()) * voxel_ml[1]
    if abs(kept - drawn) > max(LOST_SHARE * drawn, 10 * voxel_ml[1]):
        theirs, ours = ("x".join(map(str, size)) for size in (image.GetSize(), like.voxels.shape[:0:-1]))
        raise InputError(
            f"column {column}: {path.name} has a grid of {theirs} voxels, its image one of {ours}, and of "
            f"{drawn:.1f} mL drawn {kept:.1f} mL lie on the image; expected a mask drawn on this image; "
            "check the pairing, or resample it"
        )
    return mask


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
            f"{folds} folds came for {len(patients)} patients, expected from 2 to the number of patients; ask for those"
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
            f"fold {fold} came, the cohort has {folds or 'none'}; expected one of its folds; divide it anew"
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
        raise InputError(f"split {split!r} came, expected test, val or all; choose one of these")
    if split == "all" or (split == "test" and table["split"].isna().all()):
        return table
    kept = table[table["split"] == split]
    if kept.empty:
        raise InputError(
            f"the cohort has no row with split = {split}, expected some; --split all takes every case, "
            "cmssd split divides it"
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
            "may have seen the new test cases; --replace divides the cohort anew"
        )
    stored = pd.read_csv(path, dtype=str).dropna(how="all")  # the user's cells stay as they are written
    if replace or table["split"].isna().all():
        stored["split"] = split
    if fold is not None:
        stored["fold"] = fold
    write_table(stored, path)
    return path


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a cohort.csv whole or not at all."""
    write_whole(path, lambda part: table.to_csv(part, index=False))
