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
MASK_COLUMNS = ("tumour_mask", "bone_mask", "cortical_destruction_mask", "osteoid_mask")
COLUMNS = (
    "case_id", "patient_id", *MRI_COLUMNS, "slide", "slide_mpp", "site_x_mm", "site_y_mm", "site_z_mm", "rna",
    "malignant", "severity_pct", *MASK_COLUMNS, "event", "time_months", "age_years", "sex", "centre", "scanner",
    "field_t", "te_ms", "tr_ms", "coil", "split",
)  # fmt: skip
SPLITS = ("train", "val", "test")


def read(source: Path) -> pd.DataFrame:
    """The table of a cohort from its folder or its CSV, every column of COLUMNS present, one row a case.

    Raises InputError naming the row and the column of the first thing that is wrong.
    """
    path = source / "cohort.csv" if source.is_dir() else source
    if not path.is_file():
        raise InputError(f"{source.name} holds no cohort.csv; expected a cohort folder or its CSV; check the path")
    try:
        table = pd.read_csv(path, dtype={"case_id": str, "patient_id": str})
    except (ValueError, OSError) as problem:
        raise InputError(f"{path.name} is not a CSV table ({problem}); expected columns {COLUMNS[:3]}...") from None
    if "case_id" not in table or table.empty:
        raise InputError(f"{path.name} has no rows with a case_id; expected one row a case; add them")
    repeated = table["case_id"][table["case_id"].duplicated()]
    if len(repeated):
        raise InputError(f"{path.name}, row {repeated.index[0] + 2}: case_id {repeated.iloc[0]!r} is there twice")
    for column in COLUMNS:
        if column not in table:
            table[column] = None
    table["patient_id"] = table["patient_id"].fillna(table["case_id"])
    for column in ("slide", *MRI_COLUMNS, *MASK_COLUMNS):
        for row, name in table[column].dropna().items():
            if not (path.parent / str(name)).exists():
                raise InputError(
                    f"{path.name}, row {int(str(row)) + 2}, column {column}: no file {name}; mend the path or empty it"
                )
    return table


def admit_row(row: pd.Series[Any], root: Path, *, masks: bool = True) -> Case:
    """One row of a cohort as a Case; `root` is the folder of its cohort.csv. Masks are read only if asked for."""
    there = {str(key): value for key, value in row.items() if pd.notna(value)}
    site = [there.get(f"site_{axis}_mm") for axis in "xyz"]
    case = admit(
        contrasts={name: root / str(there[column]) for column, name in MRI_COLUMNS.items() if column in there},
        he=root / str(there["slide"]) if "slide" in there else None,
        mpp=float(there["slide_mpp"]) if "slide_mpp" in there else None,
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
