"""The one door for tables as text: bytes become cells under the names of their columns, as the file writes them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cmssd_core.tables import spreadsheet
from cmssd_core.tables.ids import clean
from cmssd_core.tables.text import decode
from cmssd_core.types import Finding, InputError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
HEAD_BYTES = 1 << 20  # in which a first line is looked for
MOST_LINES = 1_000_000


@dataclass(frozen=True)
class Grid:
    """cells: text, missing where empty; a row's label + 2 is its number in the file, rows without a cell are gone.

    Columns are the header's names, clean, each there once in this frame; names: as they came, twice where they are.
    several_lines: row and column of cells with line breaks, written so or rows that a stray quotation mark swallowed.
    plain: all of it is ASCII without control characters.
    """

    cells: pd.DataFrame
    names: tuple[str, ...]
    separator: str
    several_lines: tuple[tuple[int, str], ...]
    plain: bool
    findings: tuple[Finding, ...]


def read_grid(path: Path) -> Grid:
    """The cells of a table file: comma, semicolon, tab or bar between them, in any encoding that `decode` knows.

    Raises InputError, one sentence, where the file is no such table: no text, no header, a row with more cells than
    the header or fewer, a quotation mark that is not closed.
    """
    text, findings = _text(path, path.name)
    if text.count("\n") > MOST_LINES:
        raise InputError(f"{path.name} has more than {MOST_LINES:,} lines; expected one a patient, image or gene")
    start, body, separator, names = _header(text, path.name)
    _refuse_cut(text, separator, len(names), path.name)
    try:
        rows = pd.read_csv(
            io.BytesIO(body.encode("utf-8", "surrogatepass")), sep=separator, header=None, dtype=str,
            keep_default_na=False, na_values=[""], skip_blank_lines=False, encoding="utf-8",
        )  # fmt: skip
    except (ValueError, OverflowError) as problem:
        raise _no_table(path.name, str(problem), start) from None
    _refuse_short(body, separator, names, path.name, start)
    if rows.shape[1] != len(names):
        raise InputError(f"{path.name} has stray quotation marks in its header; expected names of columns; remove them")
    cells = rows.iloc[1:]
    # Blank rows are counted before they go, so that a row has the number it has in the file.
    cells.index = pd.RangeIndex(start, start + len(cells))
    cells.columns = pd.Index(_once(names))
    cells = cells.dropna(how="all")
    nameless = [column for column, name in zip(cells.columns, names, strict=True) if not name]
    # What a delimiter at the end of every line makes.
    cells = cells.drop(columns=[column for column in nameless if cells[column].isna().all()])
    if "'" in text:
        cells = cells.apply(lambda column: spreadsheet.unquoted(column) if column.notna().any() else column)
    several = _of_several_lines(cells) if '"' in text else ()
    if several:
        row, column = several[0]
        what = (
            f"{len(several)} cell(s) hold several lines, the first in row {row}, column {column}; where that is not "
            "meant, a quotation mark there swallows the rows below"
        )
        findings += (Finding("warning", what, path.name),)
    if separator != ",":
        findings += (Finding("info", f"its cells are separated by {SEPARATORS[separator]}s", path.name),)
    plain = text.isascii() and not _UNSEEN.search(text)
    return Grid(cells, tuple(name for name in names if name), separator, several, plain, findings)


def names_in(path: Path) -> tuple[str, ...]:
    """The names of a table's columns from its first line alone; none where it is no table."""
    try:
        text, _ = _text(path, path.name, most=HEAD_BYTES)
        return tuple(_header(text, path.name)[3])
    except InputError:
        return ()


def _text(path: Path, name: str, *, most: int = -1) -> tuple[str, tuple[Finding, ...]]:
    try:
        with path.open("rb") as stream:
            content = stream.read(most)
    except IsADirectoryError:
        raise InputError(f"{name} is a folder; expected a table; give the file in it") from None
    except OSError as reason:
        raise InputError(f"{name} cannot be opened ({reason.strerror}); check the path and who may read it") from None
    except ValueError:
        raise InputError("a path with a NUL byte came; expected one of a file; check it") from None
    if 0 < most <= len(content):
        content = content[: content.rfind(b"\n") & ~1] or content
    text, findings = decode(content, name)
    if not text.strip():
        raise InputError(f"{name} is empty; expected a header and one row a case; write it again")
    return text, findings


def _header(text: str, name: str) -> tuple[int, str, str, list[str]]:
    """Lines before the header, the text from it on, the separator, and the clean names of columns."""
    stream = io.StringIO(text, newline="")
    start, before, separator = 0, 0, None
    for line in stream:
        said = re.fullmatch(r"\"?sep=(.)\"?", line.strip("\ufeff\r\n"))  # what Excel understands
        if said and said[1] in SEPARATORS:
            separator = said[1]
        elif line.strip('\ufeff \t\r\n;,|"'):
            break
        start, before = start + 1, before + len(line)
    else:
        raise InputError(f"{name} is empty; expected a header and one row a case; write it again")
    bare = re.sub(r'"[^"]*"', "", line)
    separator = separator or max(SEPARATORS, key=bare.count)
    body = text[before:]
    try:
        names = [clean(cell) for cell in next(csv.reader(io.StringIO(body, newline=""), delimiter=separator))]
    except csv.Error as reason:
        raise InputError(f"{name} has no header of a table ({reason}); expected names of columns; mend it") from None
    return start, body, separator, names


def _once(names: list[str]) -> list[str]:
    """Names each of which is there once: what has none, or a name again, is told by its place."""
    count = Counter(names)
    seen: set[str] = set()
    made = []
    for place, name in enumerate(names, start=1):
        unique = name if name and (count[name] == 1 or name not in seen) else f"{name or 'column'} #{place}"
        seen.add(name)
        made.append(unique)
    return made


def _refuse_cut(text: str, separator: str, columns: int, name: str) -> None:
    """A last line without its end and its last cells is what remains of a copy that was broken off."""
    last = text[max(text.rfind("\n"), text.rfind("\r")) + 1 :]
    if last.strip() and '"' not in last and last.count(separator) + 1 < columns:
        raise InputError(
            f"{name} ends in the middle of a row: {last.count(separator) + 1} cells came, expected {columns}; copy it "
            "again, or fill the row up"
        )


def _refuse_short(body: str, separator: str, names: list[str], name: str, start: int) -> None:
    """Refuses a row that ends before the last named column: a cell forgotten in its middle shifts those behind it."""
    expected = max((place for place, column in enumerate(names, start=1) if column), default=0)
    blank = f'{separator}" \t'
    if '"' in body:
        try:
            records = list(csv.reader(io.StringIO(body, newline=""), delimiter=separator))
        except csv.Error:  # a cell longer than csv takes
            return
        counts = ((row, len(cells)) for row, cells in enumerate(records) if "".join(cells).strip(blank))
    else:
        lines = re.split(r"\r\n|\r|\n", body)
        counts = ((row, line.count(separator) + 1) for row, line in enumerate(lines) if line.strip(blank))
    short = next(((row, count) for row, count in counts if row and count < expected), None)
    if short is not None:
        raise InputError(
            f"{name}, row {short[0] + start + 1}, has fewer cells than its header: {short[1]} came, expected "
            f"{expected}; fill the row up, with an empty cell for what is not there"
        )


def _no_table(name: str, problem: str, start: int) -> InputError:
    ragged = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", problem)
    if ragged:
        return InputError(
            f"{name}, row {int(ragged[2]) + start}, has more cells than its header: {ragged[3]} came, expected "
            f"{ragged[1]}; give each column a name, or mend the row"
        )
    opened = re.search(r"EOF inside string starting at row (\d+)", problem)
    if opened:
        row = int(opened[1]) + start + 1
        return InputError(f'{name}, row {row}, has a quotation mark (") that is never closed; close or remove it')
    return InputError(f"{name} is no table of cells ({' '.join(problem.split())}); save it as CSV")


def _of_several_lines(cells: pd.DataFrame) -> tuple[tuple[int, str], ...]:
    found = []
    for column in cells:
        broken = cells[column].str.contains(r"[\r\n]", na=False)
        found += [(int(row) + 2, str(column)) for row in cells.index[broken.to_numpy(bool)]]
    return tuple(sorted(found))
