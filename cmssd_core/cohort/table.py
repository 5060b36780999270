"""cohort.csv and Cases: one row a case, paths relative to the file, empty = missing."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from cmssd_core.cases.admit import admit
from cmssd_core.cohort.leakage import image_files, refuse_leaks
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.machine.fence import Fence
from cmssd_core.tables.headers import letters
from cmssd_core.tables.read import Table, no_ids, read_table
from cmssd_core.tables.spreadsheet import plain_table
from cmssd_core.types import BoolArray, Case, InputError, Survival, Truth, Volume
from cmssd_core.volume.contrasts import MR, contrast_columns, scanner_columns
from cmssd_core.volume.mask import read_mask

#: Columns of images -> their contrast; those of an MR scanner alone.
MRI_COLUMNS = contrast_columns()
MR_COLUMNS = scanner_columns(MR)
MASK_COLUMNS = ("tumour_mask", "bone_mask", "lesion_mask", "cortical_destruction_mask", "osteoid_mask")
#: Masks of a Truth by the column that names their file; the osteoid's lies on the slide.
MASK_OF = {
    "tumour_mask": "tumour", "bone_mask": "bone", "lesion_mask": "lesion", "cortical_destruction_mask": "destruction"
}  # fmt: skip
LABELS = ("malignant", "severity_pct")
#: Columns that name a file.
FILES = ("slide", *MRI_COLUMNS, *MASK_COLUMNS)
#: Names a file too, an RNA profile or a table of many patients. It is in no key and may be absent as long as no model
#: reads it: a cohort that was moved without it opens, and `check` says what is missing.
PROFILE = "rna"
#: Modalities that every model's case has where the row names them.
READ_BY_ALL = ("mri", "he")
COLUMNS = (
    "case_id", "patient_id", *MRI_COLUMNS, "slide", "slide_mpp", "site_x_mm", "site_y_mm", "site_z_mm", "rna",
    "malignant", "severity_pct", "tissue_class", *MASK_COLUMNS, "event", "time_months", "age_years", "sex", "centre",
    "scanner", "field_t", "te_ms", "tr_ms", "coil", "split", "fold",
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
    "fold": (1, np.inf, "a whole number of a fold from 1 on"),
}


#: Columns in which other words are taken for ours; as `headers.letters` spells them.
CALLED = {
    "patient_id": ("patient", "patientnumber", "patientno", "subjectid", "subject", "participantid", "participant"),
    "case_id": ("case",),
}
#: What each column may be called, best first.
KNOWN = {column: (letters(column), *CALLED.get(column, ())) for column in COLUMNS}


def read(source: Path, *, within: Path | None = None) -> pd.DataFrame:
    """The table of a cohort from its folder or its CSV, every column of COLUMNS present, one row a case.

    Columns of NUMBERS are floats, NaN where a cell is empty; tissue_class is free text; patient_id is the one spelling
    of `ids.patient_of`. A table of tiles (every row a slide and its tissue_class) may leave out case_id: the files'
    names then serve. within: the folder below which every file must lie, links followed; None = anywhere. Raises
    InputError naming the row (the header is row 1), the column and the repair of the first thing wrong, leakage between
    splits or folds included. What was understood and need be known is in `remarks`.
    """
    path = table_of(source)
    table = with_names(read_cells(path).cells)
    if "case_id" not in table:
        raise InputError(f"{path.name} has no column case_id; it has {_first(table)}; expected one row a case; add it")
    if table.empty:
        raise InputError(f"{path.name} has no rows with a case_id; expected one row a case; add them")
    table = table.reindex(columns=[*table.columns, *(column for column in COLUMNS if column not in table)])
    _check_cells(table, path)
    table["patient_id"] = table["patient_id"].fillna(table["case_id"])
    for column in NUMBERS:
        table[column] = _numbers(table[column])
    root = os.fspath(path.parent)
    for column in (*FILES, PROFILE):
        named = table[column].dropna()
        if within is not None:
            for row, name in named.items():
                if lies_outside(path.parent, name, within, slide=column == "slide"):
                    raise InputError(f"{_place(path, row, column)}: {OUTSIDE[0]}; {OUTSIDE[1]}")
        if column == PROFILE:
            continue
        for row, name in named.items():
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


def table_of(source: Path) -> Path:
    """The CSV of a cohort, which is one or the folder that holds it. Raises InputError where there is none."""
    path = source / "cohort.csv" if source.is_dir() else source
    if not path.is_file():
        raise InputError(f"{source.name} holds no cohort.csv; expected a cohort folder or its CSV; check the path")
    return path


def read_cells(path: Path) -> Table:
    """The cells of a cohort.csv under our names, as text. Raises InputError where it is no table."""
    return read_table(path, known=KNOWN, vital=("patient_id", "split"), ids=("case_id", "patient_id"), numbers=NUMBERS)


def _first(table: pd.DataFrame) -> str:
    names = [repr(str(name)[:40]) for name in table.columns[:4]]
    return ", ".join(names) + (" and more" if len(table.columns) > 4 else "")


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
        "patient_id": pa.Column(
            None,
            pa.Check(
                lambda came: ~no_ids(came),
                error=CELL + "a patient's id, and nothing where it is not known, as this may be a missing one, a "
                "patient's initials or a number cut short; write the id, or empty the cell",
            ),
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


def file_states(
    row: Mapping[str, Any] | pd.Series[Any], root: Path, *, reads: Collection[str] = READ_BY_ALL
) -> list[str]:
    """Of each file that a row names, size and time of change of all it consists of: another image, another text.

    reads: as in `admit_row`; a profile counts where it is read.
    """
    columns = (*FILES, PROFILE) if PROFILE in reads else FILES
    named = [(column, root / str(row[column])) for column in columns if column in row and pd.notna(row[column])]
    stats = [[file.stat() for file in image_files(path, slide=column == "slide")] for column, path in named]
    return [" ".join(f"{stat.st_size} {stat.st_mtime_ns}" for stat in several) for several in stats]


#: What is said of a file outside the folder one may open, and what to do.
OUTSIDE = (
    "this lies outside the folder that this installation may open; expected a file below it, links followed",
    "move it there, or ask who runs it",
)


def lies_outside(root: Path, name: str, within: Path, *, slide: bool = False) -> bool:
    """Whether what a cell names, or any file it consists of, lies outside `within` once links are followed."""
    try:
        limit, path = within.resolve(), root / name
        if not path.resolve().is_relative_to(limit):
            return True
        parts = path.rglob("*") if path.is_dir() else image_files(path, slide=slide)
        return any(not part.resolve().is_relative_to(limit) for part in parts)
    except (OSError, ValueError, RuntimeError):  # a name that can be no path, links in a circle
        return os.path.lexists(os.path.join(root, name))


def admit_row(
    row: pd.Series[Any], root: Path, *, masks: bool = True, reads: Collection[str] = READ_BY_ALL,
    within: Path | None = None, fence: Fence | None = None,
) -> Case:  # fmt: skip
    """One row of a cohort as a Case; `root` is the folder of its cohort.csv.

    Masks are read only if asked for. reads: modalities that are read where the row names them; a profile is read only
    for a model that needs it, so that a case is the same case to all others. within: as in `read`, looked at anew, as a
    link may have changed since. fence: as in `admit`.
    """
    present = {str(key): value for key, value in row.items() if pd.notna(value)}
    for column in (*FILES, PROFILE):
        if (
            within is not None
            and column in present
            and lies_outside(root, str(present[column]), within, slide=column == "slide")
        ):
            raise InputError(f"column {column}: {OUTSIDE[0]}; {OUTSIDE[1]}")
    slide = "slide" in present and "he" in reads
    site = [present.get(column) if slide else None for column in SITE_COLUMNS]
    contrasts = {
        name: root / str(present[column])
        for column, name in MRI_COLUMNS.items()
        if column in present and "mri" in reads
    }
    try:
        case = admit(
            contrasts=contrasts,
            he=root / str(present["slide"]) if slide else None,
            mpp=float(present["slide_mpp"]) if slide and "slide_mpp" in present else None,
            site_mm=None if None in site else (float(str(site[0])), float(str(site[1])), float(str(site[2]))),
            rna=root / str(present[PROFILE]) if PROFILE in present and PROFILE in reads else None,
            patient_id=str(present["patient_id"]) if "patient_id" in present else None,
            fence=fence,
        )
    except InputError as mistake:  # of the row, not of a field that one was asked for
        raise InputError(str(mistake)) from mistake
    volume = case.inputs.get("mri")
    mask: dict[str, BoolArray] = {}
    if masks and isinstance(volume, Volume):
        known = [column for column in MASK_COLUMNS if column in present and column != "osteoid_mask"]
        mask = {column: _mask(root / str(present[column]), column, like=volume) for column in known}
    followed = {"event", "time_months"} <= present.keys()
    truth = Truth(
        masks={name: mask[column] for column, name in MASK_OF.items() if column in mask},
        labels={name: float(present[name]) for name in LABELS if name in present},
        survival=Survival(float(present["time_months"]), bool(present["event"])) if followed else None,
    )
    return replace(case, truth=truth)


def _mask(path: Path, column: str, *, like: Volume) -> BoolArray:
    try:
        return read_mask(path, like=like)
    except InputError as reason:
        raise InputError(f"column {column}: {reason}") from None


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a cohort.csv whole or not at all; no cell of it is a formula to a spreadsheet."""
    write_atomic(path, lambda part: plain_table(table).to_csv(part, index=False))
