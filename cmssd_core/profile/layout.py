"""How a table of expression lies: delimiter, patients in rows or genes in rows, and the cells of one patient."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cmssd_core.tables.ids import patient_of
from cmssd_core.tables.text import decode
from cmssd_core.types import Finding, InputError

Form = Literal["one file a patient", "patients in rows", "genes in rows"]
SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
DELIMITERS = {"\t": "tab", ";": "semicolon", ",": "comma"}
#: What a first column is called, in letters alone, where its cells are genes, or patients. "sample" is in neither: it
#: stands over both.
_GENE_WORDS = frozenset(
    ("gene", "genes", "geneid", "genename", "genesymbol", "symbol", "hugosymbol", "hgncsymbol", "ensemblid", "ensembl")
)
_PATIENT_WORDS = frozenset(("patient", "patients", "patientid", "case", "caseid", "subject", "subjectid"))


@dataclass(frozen=True)
class Cells:
    """One patient's cells as text, gene by gene. patients: how many the file holds. findings: of its encoding."""

    form: Form
    delimiter: str
    patients: int
    genes: tuple[str, ...]
    values: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Table:
    """A file's lines with their numbers in it, none blank; `header` is None where the first line is data already."""

    name: str
    delimiter: str
    header: list[str] | None
    lines: list[tuple[int, str]]
    findings: tuple[Finding, ...]

    def columns(self, one: int, other: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Two columns' cells, stripped; `one` comes before `other`."""
        picked = []
        for number, line in self.lines:
            # Only what is asked for is split off: a cohort reads the table of a whole hospital once a patient.
            plain = '"' not in line and len(line) < csv.field_size_limit()
            cells = line.split(self.delimiter, other + 1) if plain else _split(line, self.delimiter, self.name)
            self.refuse_ragged(number, line.count(self.delimiter) + 1 if plain else len(cells))
            picked.append((cells[one].strip(), cells[other].strip()))
        return tuple(cell for cell, _ in picked), tuple(cell for _, cell in picked)

    def refuse_ragged(self, number: int, cells: int) -> None:
        """Raise InputError for a line of other than the header's number of cells."""
        wanted = 2 if self.header is None else len(self.header)
        if cells != wanted:
            raise InputError(
                f"{self.name}, line {number}, has {cells} cells; expected {wanted} as in its first line; mend the line"
            )

    def first_cells(self) -> Iterator[tuple[int, str]]:
        """The first cell of each line, without reading the rest of it."""
        for number, line in self.lines:
            quoted = line.startswith('"')
            yield number, (line[1:].partition('"') if quoted else line.partition(self.delimiter))[0].strip()


def read_cells(path: Path, *, patient_id: str | None, size_limit_mb: int, any_patient: bool = False) -> Cells:
    """The cells of one patient from a file of one or of many.

    Two columns are one patient's genes and values, with or without a header. With more, the file holds many patients,
    in rows or in columns: which, the place of `patient_id` says, else the name of the first column, else the number of
    rows (one row is one patient). any_patient: of many patients take the first where none is named.
    Raises InputError where the file is no such table or does not hold that one patient.
    """
    table = _open_table(path, size_limit_mb=size_limit_mb)
    patient_id = None if patient_id is None else _as_written(table, patient_id.strip())
    if _is_long(table, patient_id):
        return Cells("one file a patient", table.delimiter, 1, *table.columns(0, 1), table.findings)
    header = table.header or []
    if len(header) > 2 and all("." in name and _is_number(name) for name in header[1:]):
        raise InputError(
            f"{table.name} has numbers in its first line; expected the genes' or the patients' names there; add them"
        )
    if _patients_in_rows(table, patient_id):
        return _from_rows(table, patient_id, any_patient=any_patient)
    return _from_columns(table, patient_id, any_patient=any_patient)


def _as_written(table: _Table, patient_id: str) -> str:
    """A patient's id as the table spells it, where it has not this spelling and another of the same id, 12.0 for 12."""
    if table.header is None:
        return patient_id
    there = [*table.header[1:], *(cell for _, cell in table.first_cells())]
    if patient_id in there:
        return patient_id
    wanted = patient_of(patient_id)
    same = {cell for cell in there if patient_of(cell) == wanted}
    if len(same) > 1:
        raise InputError(
            f"{table.name} has patient {wanted!r} under {len(same)} spellings; expected one row or column; keep one"
        )
    return same.pop() if same else patient_id


def _open_table(path: Path, *, size_limit_mb: int) -> _Table:
    name = path.name
    lines, findings = _read_lines(path, size_limit_mb=size_limit_mb)
    # Lines of nothing but delimiters are what a spreadsheet leaves below a table; "#" begins a remark above it.
    lines = [(number, line) for number, line in lines if line.strip(' \t;,"')]
    while lines and lines[0][1].startswith("#"):
        number, line = lines[0]
        # "# remark", but "#gene,value" where there are as many cells below it.
        if (
            line[1:2].isalpha()
            and len(lines) > 1
            and any(line.count(d) == lines[1][1].count(d) > 0 for d in DELIMITERS)
        ):
            lines[0] = (number, line[1:])
            break
        lines = lines[1:]
    if not lines:
        raise InputError(f"{name} is empty; expected a table of genes and values; export it again")
    bare = re.sub(r'"[^"]*"', "", "".join(line for _, line in lines[:2]))
    # Of equal counts the first in DELIMITERS: in "TP53;3,14" the comma is a decimal one.
    delimiter = max(DELIMITERS, key=bare.count)
    if not bare.count(delimiter):
        raise InputError(
            f"{name} has one column; expected genes and values, split by comma, tab or semicolon; export it with both"
        )
    first = _split(lines[0][1], delimiter, name)
    named = not first[0] or _letters(first[0]) in _GENE_WORDS | _PATIENT_WORDS  # "gene,4711": a patient's number
    if len(first) == 2 and not named and _is_number(first[1].replace(",", ".")):
        return _Table(name, delimiter, None, lines, findings)
    if len(lines) == 1:
        raise InputError(f"{name} has no line below its first; expected a value for each gene; export it again")
    # R writes row names without a name for their column.
    if not named and len(_split(lines[1][1], delimiter, name)) == len(first) + 1:
        first = ["", *first]
    if len(first) == 1:
        raise InputError(f"{name} has one column; expected genes and values; export it with both")
    return _Table(name, delimiter, first, lines[1:], findings)


def _read_lines(path: Path, *, size_limit_mb: int) -> tuple[list[tuple[int, str]], tuple[Finding, ...]]:
    name = path.name
    if path.is_dir():
        raise InputError(f"{name} is a folder; expected one table of expression (.csv or .tsv); give the file in it")
    if not path.is_file():
        raise InputError(f"there is no file {name}; expected a table of expression (.csv or .tsv); check the path")
    limit = size_limit_mb << 20
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            content = stream.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as reason:
        raise InputError(f"{name} cannot be unpacked; expected a whole .gz file; copy or pack it again") from reason
    except OSError as reason:
        raise InputError(f"{name} cannot be opened ({reason.strerror}); check who may read it") from reason
    if len(content) > limit:
        raise InputError(
            f"{name} holds more than {size_limit_mb} MB of text; expected one patient's genes, or a smaller table; "
            "keep only the genes that the model reads"
        )
    text, findings = decode(content, name)
    # Not splitlines, to which a form feed or U+2028 in a cell is the end of a line.
    return list(enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1)), findings


def _split(line: str, delimiter: str, name: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error as reason:
        raise InputError(f"{name} is no table of cells ({reason}); expected genes and values; save it as CSV") from None


def _is_long(table: _Table, patient_id: str | None) -> bool:
    """Two columns are genes and values, unless their first is one of patients."""
    if table.header is None:
        return True
    if len(table.header) > 2 or _letters(table.header[0]) in _PATIENT_WORDS:
        return False
    return patient_id is None or all(cell != patient_id for _, cell in table.first_cells())


def _patients_in_rows(table: _Table, patient_id: str | None) -> bool:
    header = table.header or []
    word = _letters(header[0])
    if patient_id is not None:
        in_header = patient_id in header[1:]
        in_column = any(cell == patient_id for _, cell in table.first_cells())
        if in_header != in_column:
            return in_column
    if word in _GENE_WORDS:
        return False
    if word in _PATIENT_WORDS or (patient_id is None and len(table.lines) == 1):
        return True
    if patient_id is not None:
        raise _not_found(table, patient_id, "first line or first column")
    raise InputError(
        f"{table.name} holds many patients, in rows or in columns; expected the patient's id, or a first column called "
        "'patient_id' or 'gene'; say which patient it is",
        field="patient_id",
    )


def _from_rows(table: _Table, patient_id: str | None, *, any_patient: bool) -> Cells:
    if patient_id is None and len(table.lines) > 1 and not any_patient:
        raise _which(table, len(table.lines))
    # Only the patient's own line is split into cells: a cohort of many patients reads such a table many times.
    wanted = [place for place, (_, cell) in enumerate(table.first_cells()) if patient_id is None or cell == patient_id][
        : 1 if patient_id is None else None
    ]
    if not wanted:
        raise _not_found(table, patient_id, "first column")
    if len(wanted) > 1:
        raise InputError(
            f"{table.name} has {len(wanted)} rows of patient {patient_id!r}; expected one row a patient; keep one"
        )
    number, line = table.lines[wanted[0]]
    cells = _split(line, table.delimiter, table.name)
    table.refuse_ragged(number, len(cells))
    header = table.header or []
    return Cells(
        "patients in rows", table.delimiter, len(table.lines), tuple(header[1:]), tuple(cells[1:]), table.findings
    )


def _from_columns(table: _Table, patient_id: str | None, *, any_patient: bool) -> Cells:
    header = table.header or []
    if patient_id is None and len(header) > 2 and not any_patient:
        raise _which(table, len(header) - 1)
    if patient_id is not None and patient_id not in header[1:]:
        raise _not_found(table, patient_id, "first line")
    if patient_id is not None and header[1:].count(patient_id) > 1:
        raise InputError(
            f"{table.name} has {header[1:].count(patient_id)} columns of patient {patient_id!r}; expected one column a "
            "patient; keep one"
        )
    column = 1 if patient_id is None else header.index(patient_id, 1)
    return Cells("genes in rows", table.delimiter, len(header) - 1, *table.columns(0, column), table.findings)


def _which(table: _Table, patients: int) -> InputError:
    return InputError(
        f"{table.name} holds {patients} patients; expected the id of one; say which patient it is", "patient_id"
    )


def _not_found(table: _Table, patient_id: str | None, where: str) -> InputError:
    return InputError(
        f"{table.name} holds no patient {patient_id!r} in its {where}; expected one; check the id", "patient_id"
    )


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
