"""Leakage: no patient, no file and no identical bytes on two sides of a split."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cmssd_core.slide.digest import slide_files
from cmssd_core.types import InputError

#: Columns of a cohort that put rows on sides; a row whose cell is empty is on none.
SIDES = ("split", "fold")
#: Headers whose voxels may lie in another file, and where those of text say in which.
DETACHED = (".mhd", ".mha", ".nhdr", ".hdr")
DATA_FILE = re.compile(rb"^(?:ElementDataFile *=|data ?file:) *(.+?) *\r?$", re.MULTILINE | re.IGNORECASE)
SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True)
class _Use:
    """One image file of one row, and the side the row is on."""

    row: Any
    column: str
    path: Path
    side: str
    stat: os.stat_result

    def size(self) -> Hashable:
        """Bytes of a file, or of what a header keeps beside it; of a folder, of each file in it."""
        if self.path.is_dir():
            return tuple(sorted(file.stat().st_size for file in self.files()))
        data = _data_of(self.path)
        return self.stat.st_size if data is None else data.stat().st_size

    def files(self) -> list[Path]:
        """What is compared; not a header beside its data, as it names their file and so differs in a renamed copy."""
        data = _data_of(self.path)
        return image_files(self.path, slide=self.column == "slide") if data is None else [data]


@dataclass(frozen=True)
class Leak:
    """What stands on two sides: the row and column of its second place, what it is, and what to do."""

    row: Any
    column: str
    what: str
    repair: str


def refuse_leaks(
    table: pd.DataFrame, root: Path, *, slides: Iterable[str], images: Iterable[str], place: Callable[[Any, str], str]
) -> None:
    """Raise InputError for the first of `leaks`. place: row and column in words."""
    for leak in leaks(table, root, slides=slides, images=images, place=place):
        raise InputError(f"{place(leak.row, leak.column)}: {leak.what}; {leak.repair}")


def leaks(
    table: pd.DataFrame, root: Path, *, slides: Iterable[str], images: Iterable[str], place: Callable[[Any, str], str]
) -> Iterator[Leak]:
    """Patients, slides and scans that stand on two sides of `split` or of `fold`: every patient, every group of files.

    slides, images: columns of paths relative to `root`; all files must exist. The same file is known by path, link or
    bytes: files of equal size on different sides are compared by a sample, those that still agree by their sha256.
    """
    for sides in SIDES:
        side = table[sides].dropna()
        if side.nunique() < 2:
            continue
        side = side.map(lambda cell: cell if isinstance(cell, str) else f"fold {cell:g}")
        yield from _patients(side, table.loc[side.index, "patient_id"], sides)
        for kind, columns in (("slide", slides), ("scan", images)):
            uses = [
                _Use(row, column, path, str(side[row]), path.stat())
                for column in columns
                for row, name in table.loc[side.index, column].dropna().items()
                for path in (root / str(name),)
            ]
            same = _shared(_groups(uses, lambda use: (use.stat.st_dev, use.stat.st_ino)), [])
            # Only where no path is shared are bytes compared: that reads files.
            same = same or _shared(_groups(uses, _Use.size), [_sample, _digest])
            for one, other in same:
                first = place(one.row, one.column).partition(", ")[2]
                yield Leak(
                    other.row,
                    other.column,
                    f"{other.path.name} is the same {kind} as {one.path.name} of {first}, which is in {one.side} "
                    f"while this is in {other.side}; expected each {kind} in one {sides}",
                    f"give both rows the same {sides} or remove one",
                )


def _patients(side: pd.Series[str], patient: pd.Series[str], sides: str) -> Iterator[Leak]:
    first = side.groupby(patient).transform("first")
    for row in side.index[side != first]:
        what = f"patient {patient[row]!r} is in {first[row]} and in {side[row]}, expected each patient in one {sides}"
        yield Leak(row, sides, what, f"give all rows of a patient the same {sides}")


def _groups(uses: list[_Use], what: Callable[[_Use], Hashable]) -> list[list[_Use]]:
    """Uses that agree in `what` and stand on two sides or more."""
    found: dict[Hashable, list[_Use]] = defaultdict(list)
    for use in uses:
        found[what(use)].append(use)
    return [group for group in found.values() if len({use.side for use in group}) > 1]


def _shared(groups: list[list[_Use]], finer: list[Callable[[_Use], Hashable]]) -> list[tuple[_Use, _Use]]:
    """Two uses on different sides of each group that agrees in all of `finer`, the cheapest question first."""
    for what in finer:
        groups = [smaller for group in groups for smaller in _groups(group, what)]
    return [(group[0], next(use for use in group if use.side != group[0].side)) for group in groups]


def image_files(path: Path, *, slide: bool) -> list[Path]:
    """Every file of an image: of a folder, of a header with its voxels beside it, of a slide in several parts."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    data = _data_of(path)
    if data is not None:
        return [path, data]
    return sorted(slide_files(path)) if slide else [path]


def _data_of(path: Path) -> Path | None:
    """The file beside a header that holds its voxels; None where they lie in the file itself, or in no such file."""
    kind = path.suffix.lower()
    if kind not in DETACHED or not path.is_file():
        return None
    named = f"{path.stem}.img"
    if kind != ".hdr":
        with path.open("rb") as stream:
            found = DATA_FILE.search(stream.read(SAMPLE_BYTES))
        named = found[1].decode("utf-8", "replace") if found else ""
    data = path.parent / Path(named).name
    return data if named == data.name and data.is_file() else None


def _sample(use: _Use) -> Hashable:
    """Start, middle and end of a file: differing scans of one size differ here."""
    parts = []
    for path in use.files():
        size = path.stat().st_size
        with path.open("rb") as stream:
            for start in (0, size // 2, max(0, size - SAMPLE_BYTES)):
                stream.seek(start)
                parts.append(stream.read(SAMPLE_BYTES))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _digest(use: _Use) -> Hashable:
    digests = []
    for path in use.files():
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return tuple(sorted(digests))
