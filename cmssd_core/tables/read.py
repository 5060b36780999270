"""A table of people or images as text under our names: headers, ids, missing cells and decimal commas by one rule."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cmssd_core.tables.grid import Grid, read_grid
from cmssd_core.tables.headers import recognise
from cmssd_core.tables.ids import MISSING as NO_ID
from cmssd_core.tables.ids import PLAIN, SHORTENED, clean, patient_of
from cmssd_core.types import Finding, InputError

#: Cells that are missing where no id is asked for: what pandas and R write, and spreadsheets.
MISSING = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """cells: text under our names, unknown columns under their own; a row's label + 2 is its number in the file.

    written: our name -> the column's name in `grid`, which holds the cells as they came.
    """

    cells: pd.DataFrame
    written: Mapping[str, str]
    grid: Grid
    findings: tuple[Finding, ...]


def read_table(
    path: Path,
    *,
    known: Mapping[str, Sequence[str]],
    vital: Collection[str] = (),
    ids: Collection[str] = (),
    numbers: Collection[str] = (),
) -> Table:
    """A table file; columns of `known` are clean text, missing where empty or a word of MISSING.

    known: as in `recognise`. ids: columns in which a word of MISSING stays, to be refused or said by the caller, and
    12.0 is 12. numbers: columns in which a decimal comma is a point where commas do not part the cells: in a table of
    commas, "0,5" stays what it is. Raises InputError where the file is no table or two columns are the same.
    """
    grid = read_grid(path)
    header = recognise(grid.names, known, vital=vital, where=path.name)
    ours = {written: name for name, written in header.written.items()}
    broken = next(((row, ours[column]) for row, column in grid.several_lines if column in ours), None)
    if broken is not None:
        raise InputError(
            f"{path.name}, row {broken[0]}, column {broken[1]}: a cell of several lines came, expected one line; a "
            "quotation mark may have swallowed the rows below it: close or remove it"
        )
    cells = grid.cells.rename(columns=ours)
    findings = [*grid.findings, *header.findings]
    for name in header.written:
        column = cells[name]
        if name in ids:
            cells[name] = made = _ids(column, whole=name != "case_id")
            findings += _respelt(column, made, name)
            continue
        column = _clean(column, plain=grid.plain)
        column = column.mask(column.isin(MISSING))
        if name in numbers and grid.separator != ",":
            comma = column.str.fullmatch(r"[+-]?\d+,\d+", na=False)
            thousands = column.str.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", na=False)
            comma &= ~thousands
            if comma.any():
                column = column.where(~comma, column.str.replace(",", ".", regex=False))
                findings.append(Finding("info", f"decimal commas are read as points in column {name}", path.name))
        cells[name] = column
    return Table(cells, header.written, grid, tuple(findings))


def no_ids(column: pd.Series[str]) -> pd.Series[bool]:
    """Which cells are no id: a word for a missing one, or a number that a spreadsheet has shortened."""
    if column.isna().all():
        return column.notna()
    found: pd.Series[bool] = column.str.casefold().isin(NO_ID) | column.str.fullmatch(SHORTENED, na=False)
    return found


def first(marked: pd.Series[bool]) -> int:
    """The number in its file of the first row that is marked."""
    return int(marked.index[marked.to_numpy(bool)][0]) + 2


def _clean(column: pd.Series[str], *, plain: bool) -> pd.Series[str]:
    """Cells without blanks around them and without what no one sees; one of nothing else is missing."""
    if plain:
        column = column.str.strip()
        return column.mask(column == "")
    odd = column.str.contains(r"^\s|\s$|[^\x20-\x7e]", na=False)
    return _mapped(column, odd, clean) if odd.any() else column


def _ids(column: pd.Series[str], *, whole: bool) -> pd.Series[str]:
    odd = ~column.str.fullmatch(PLAIN, na=True)
    return _mapped(column, odd, patient_of if whole else clean) if odd.any() else column


def _mapped(column: pd.Series[str], odd: pd.Series[bool], how: object) -> pd.Series[str]:
    made = column.astype(object)
    made[odd] = [(how(cell) or None) for cell in column[odd]]  # type: ignore[operator]
    return made.astype("str").where(made.notna())


def _respelt(came: pd.Series[str], made: pd.Series[str], name: str) -> list[Finding]:
    """A finding that counts and shows the ids that were not taken as they stand."""
    changed = came.notna() & (came != made.fillna(""))
    if not changed.any():
        return []
    row, cell = first(changed), str(came[changed].iloc[0])
    what = (
        f"{int(changed.sum())} cell(s) are read without blanks, unseen characters or '.0', the first in row {row}: "
        f"{re.sub(r'[^ -~]', '?', cell)!r}"
    )
    return [Finding("info", what, f"column {name}")]
