"""cohort.csv and Cases: one row a case, paths relative to the file, empty = missing; splits by patient."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from cmssd_core.cases import admit
from cmssd_core.mri.mask import read_mask
from cmssd_core.types import BoolArray, Case, InputError, Truth, Volume

MRI_COLUMNS = {"mri_t1": "t1", "mri_t2": "t2", "mri_stir": "stir", "mri_adc": "adc", "ct": "ct", "pet": "pet"}
MASK_COLUMNS = ("tumour_mask", "bone_mask", "lesion_mask", "cortical_destruction_mask", "osteoid_mask")
COLUMNS = (
    "case_id", "patient_id", *MRI_COLUMNS, "slide", "slide_mpp", "site_x_mm", "site_y_mm", "site_z_mm", "rna",
    "malignant", "severity_pct", *MASK_COLUMNS, "event", "time_months", "age_years", "sex", "centre", "scanner",
    "field_t", "te_ms", "tr_ms", "coil", "split",
)  # fmt: skip
SPLITS = ("train", "val", "test")
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
}


def read(source: Path) -> pd.DataFrame:
    """The table of a cohort from its folder or its CSV, every column of COLUMNS present, one row a case.

    Raises InputError naming the row (the header is row 1), the column and the repair of the first thing wrong.
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
    table = table.dropna(how="all")
    if "case_id" not in table or table.empty:
        raise InputError(f"{path.name} has no rows with a case_id; expected one row a case; add them")
    table = table.reindex(columns=[*table.columns, *(column for column in COLUMNS if column not in table)])
    _check_names(table, path)
    table["patient_id"] = table["patient_id"].fillna(table["case_id"])
    _check_numbers(table, path)
    _check_splits(table, path)
    for column in ("slide", *MRI_COLUMNS, *MASK_COLUMNS):
        for row, name in table[column].dropna().items():
            if not os.path.exists(os.path.join(path.parent, name)):
                raise InputError(f"{_place(path, row, column)}: no file {name}; mend the path or empty it")
    return table.reset_index(drop=True)


def _place(path: Path, row: Any, column: str) -> str:
    return f"{path.name}, row {int(row) + 2}, column {column}"


def _refuse(bad: pd.Series[bool], came: pd.Series[Any], path: Path, expected: str) -> None:
    """Raises for the first bad row of a column; `came` holds the cells as they stand in the file."""
    if bad.any():
        row: Any = bad.idxmax()
        cell = "nothing" if pd.isna(came[row]) else repr(str(came[row]))
        raise InputError(f"{_place(path, row, str(came.name))}: {cell} came, expected {expected}")


def _check_names(table: pd.DataFrame, path: Path) -> None:
    names = table["case_id"]
    fit = names.str.fullmatch(r"[\w.-]+", na=False) & ~names.isin([".", ".."])
    _refuse(~fit, names, path, "a name of letters, digits, '_', '.' and '-'; rename the case")
    twice = names.duplicated()
    if twice.any():
        row: Any = twice.idxmax()
        raise InputError(f"{path.name}, row {row + 2}: case_id {names[row]!r} is there twice; rename one")


def _check_numbers(table: pd.DataFrame, path: Path) -> None:
    """Turns the columns of NUMBERS into numbers, NaN where a cell is empty; refuses what is none or out of bounds."""
    for column, (low, high, expected) in NUMBERS.items():
        came = table[column]
        value = pd.to_numeric(came, errors="coerce").astype(float)
        if column in ("malignant", "event"):
            fit, expected = value.isin([0, 1]), "0 or 1"
        else:
            fit = value.between(low, high) & np.isfinite(value)
        _refuse(came.notna() & ~fit, came, path, f"{expected}; mend the cell or empty it")
        table[column] = value
    known = table[list(SITE_COLUMNS)].notna()
    partly = known.any(axis=1) & ~known.all(axis=1)
    for column in SITE_COLUMNS:
        wanted = "all three coordinates of a site or none; fill in the cell or empty the other two"
        _refuse(partly & ~known[column], table[column], path, wanted)


def _check_splits(table: pd.DataFrame, path: Path) -> None:
    split, patient = table["split"], table["patient_id"]
    expected = f"one of {', '.join(SPLITS)}; mend the cell or empty it"
    _refuse(split.notna() & ~split.isin(SPLITS), split, path, expected)
    first = split.groupby(patient).transform("first")
    leak = split.notna() & (split != first)
    if leak.any():
        row: Any = leak.idxmax()
        raise InputError(
            f"{_place(path, row, 'split')}: patient {patient[row]!r} is in {first[row]} and in {split[row]}, expected "
            "each patient in one split; give all rows of a patient the same split"
        )


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
        mask = {column: read_mask(root / str(there[column]), like=volume) for column in known}
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


def split_by_patient(table: pd.DataFrame, *, seed: int) -> list[str]:
    """A split name for each row: 70 / 15 / 15 by patient, stratified by malignancy where every class allows it."""
    patients = table.groupby("patient_id")["malignant"].max().sort_index()
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


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a cohort.csv whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    table.to_csv(part, index=False)
    part.replace(path)
