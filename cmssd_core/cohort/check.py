"""Everything that is wrong with a cohort.csv, as rows of a table: row, column, what came, what to do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

from cmssd_core.cohort.leakage import leaks
from cmssd_core.cohort.remarks import of_patients
from cmssd_core.cohort.table import (
    COLUMNS,
    FILES,
    MRI_COLUMNS,
    NUMBERS,
    OUTSIDE,
    PROFILE,
    SCHEMA,
    lies_outside,
    read_cells,
    with_names,
)
from cmssd_core.types import Finding, InputError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. row: as in the file (the header is 1), None = the whole table.

    fatal: the cohort cannot be opened before it is mended.
    """

    row: int | None
    column: str | None
    what: str
    repair: str
    fatal: bool = True


@dataclass(frozen=True)
class Report:
    """problems: in the order of rows. cases: rows with a cell. files: looked for; None = their folder is unknown.

    compared: whether images were compared between splits, which needs all else to be right. findings: what is not
    wrong and need be known, as in `remarks`.
    """

    problems: tuple[Problem, ...]
    cases: int
    files: int | None
    compared: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether cohort.read takes it, as far as was looked."""
        return not any(problem.fatal for problem in self.problems)


def check(table_file: Path, *, root: Path | None, within: Path | None = None) -> Report:
    """Examines a cohort.csv against the rules of cohort.read, and goes on after the first mistake.

    root: the folder its paths start from; None = unknown, then files are not looked for. within: as in cohort.read.
    """
    try:
        read = read_cells(table_file)
    except InputError as problem:
        what, _, repair = str(problem).rpartition("; ")
        return _whole(what or str(problem), repair if what else "mend it")
    table = with_names(read.cells)
    if "case_id" not in table:
        return _whole(
            "there is no column case_id", "add one: a name of letters, digits, '_', '.' and '-' for each case"
        )
    if table.empty:
        return _whole("there is no case", "add one row a case")
    table = table.reindex(columns=[*table.columns, *(column for column in COLUMNS if column not in table)])
    problems, findings = _cells(table), (*read.findings, *of_patients(table))
    table["patient_id"] = table["patient_id"].fillna(table["case_id"])
    missing, files = _missing(table, root, within) if root is not None else ([], None)
    problems += missing
    compared = root is not None and not any(problem.fatal for problem in problems)
    problems += _images(table) + _leaks(table, root if compared else None)
    ordered = sorted(problems, key=lambda p: (p.row or 0, COLUMNS.index(p.column) if p.column in COLUMNS else 99))
    return Report(tuple(ordered), len(table), files, compared, findings)


def _whole(what: str, repair: str) -> Report:
    return Report((Problem(None, None, what, repair),), 0, None)


def _cells(table: pd.DataFrame) -> list[Problem]:
    """What SCHEMA refuses, each cell."""
    try:
        SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as found:
        text = []
        for error in found.schema_errors:
            column = str(error.schema.name or error.check.name)
            wanted = str(error.check.error)
            for row in pd.unique(error.failure_cases["index"]):
                cell = table.loc[row, column]
                words = {
                    "row": f"row {int(row) + 2}",
                    "place": column,
                    "cell": "nothing" if pd.isna(cell) else repr(str(cell)),
                }
                what, _, repair = wanted.format(**words).removeprefix(f"{column}: ").partition("; ")
                text.append(Problem(int(row) + 2, column, what.removeprefix(f"row {int(row) + 2}: "), repair))
        return text
    return []


def _missing(table: pd.DataFrame, root: Path, within: Path | None) -> tuple[list[Problem], int]:
    """Files that are not there or may not be opened, and how many were looked for."""
    found, count = [], 0
    for column in (*FILES, PROFILE):
        named = table[column].dropna()
        count += len(named)
        if within is not None:  # first: whether a file is there is not told of what may not be opened
            outside = named.map(lambda name, column=column: lies_outside(root, name, within, slide=column == "slide"))
            found += [Problem(_number(row), column, *OUTSIDE) for row in named.index[outside.to_numpy(bool)]]
            named = named[~outside.to_numpy(bool)]
        # os.path.exists says no of a cell that can be no path; Path.exists raises for one that is too long.
        present = {name: os.path.exists(os.path.join(root, name)) for name in named.unique()}
        found += [
            Problem(_number(row), column, f"no file {name}", "mend the path or empty the cell", fatal=column != PROFILE)
            for row, name in named.items()
            if not present[name]
        ]
    return found, count


def _images(table: pd.DataFrame) -> list[Problem]:
    """Rows without anything to read."""
    bare = table["slide"].isna() & table[list(MRI_COLUMNS)].isna().all(axis=1)
    what, repair = "neither an MRI nor a slide is named", "name at least one of them, or remove the row"
    return [Problem(_number(row), None, what, repair, fatal=False) for row in table.index[bare]]


def _leaks(table: pd.DataFrame, root: Path | None) -> list[Problem]:
    """Patients on two sides of a split; images too, where all of them are there to be compared."""
    table = table.assign(**{column: pd.to_numeric(table[column], errors="coerce") for column in NUMBERS})
    found = leaks(
        table,
        root or Path(),
        slides=["slide"] if root is not None else [],
        images=list(MRI_COLUMNS) if root is not None else [],
        place=lambda row, column: f"table, row {_number(row)}, column {column}",
    )
    try:
        return [Problem(_number(leak.row), leak.column, f"leakage: {leak.what}", leak.repair) for leak in found]
    except (OSError, InputError) as fault:
        return [Problem(None, None, f"the images could not be compared ({fault})", "check that they can be read")]


def _number(row: Any) -> int:
    return int(row) + 2
