"""Leakage: no patient, no file and no identical bytes on two sides of a split."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cmssd_core.slide.digest import slide_files
from cmssd_core.types import InputError
from cmssd_core.volume.folder import FILES_LIMIT, OF_ONE

#: Columns of a cohort that put rows on sides; a row whose cell is empty is on none.
SIDES = ("split", "fold")
#: Headers whose voxels may lie in another file, and where those of text say in which.
DETACHED = (".mhd", ".mha", ".nhdr", ".hdr")
DATA_FILE = re.compile(rb"^(?:ElementDataFile *=|data ?file:) *(.+?) *\r?$", re.MULTILINE | re.IGNORECASE)
SAMPLE_BYTES = 1 << 16
GZIP_LEAST_BYTES = 18  # a head and an end around nothing
#: How the names of files begin that macOS writes beside those of a foreign disk; none is an image.
BESIDE = "._"


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
    """Raise InputError for the first of `leaks`, or where no file can be read. place: row and column in words."""
    found = leaks(table, root, slides=slides, images=images, place=place)
    try:
        leak = next(found, None)
    except OSError as fault:
        reason = fault.strerror or type(fault).__name__
        raise InputError(f"the images could not be compared ({reason}); check that they can be read") from None
    if leak is not None:
        raise InputError(f"{place(leak.row, leak.column)}: {leak.what}; {leak.repair}")


def leaks(
    table: pd.DataFrame, root: Path, *, slides: Iterable[str], images: Iterable[str], place: Callable[[Any, str], str]
) -> Iterator[Leak]:
    """Patients, slides and scans that stand on two sides of `split` or of `fold`: every patient, every group of files.

    slides, images: columns of paths relative to `root`; all files must exist. The same file is known by path, link or
    bytes: files of equal size on different sides are compared by a sample, those that still agree by their sha256. A
    file packed by gzip is known beside the same one unpacked, or packed anew.
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
            same = same or _shared_unpacked(uses)
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


def _shared_unpacked(uses: list[_Use]) -> list[tuple[_Use, _Use]]:
    """As `_shared` of the bytes that files packed by gzip hold, and of unpacked files as long as one of those.

    gzip keeps checksum and length behind the bytes, so that nothing is unpacked but what agrees in both. Of a file
    packed in several pieces they are the last one's alone, and its copies are not found.
    """
    told = {use: _gzip_end(use.path) for use in uses if use.path.suffix.lower() == ".gz"}
    ends = {use: told_end for use, told_end in told.items() if told_end is not None}
    lengths = {length for _, length in ends.values()}
    bare = [use for use in uses if use not in ends and use.path.is_file() and use.stat.st_size in lengths]

    def end_of(use: _Use) -> Hashable:
        return ends[use] if use in ends else (_checksum(use.path), use.stat.st_size)

    return _shared(_groups([*ends, *bare], end_of), [lambda use: _unpacked_digest(use.path, packed=use in ends)])


def _gzip_end(path: Path) -> tuple[int, int] | None:
    """CRC-32 and length of what a file packed by gzip holds, by its last bytes; None where it is no such file."""
    if not path.is_file() or path.stat().st_size < GZIP_LEAST_BYTES:
        return None
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            return None
        stream.seek(-8, os.SEEK_END)
        checksum, length = struct.unpack("<II", stream.read(8))
    return checksum, length


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as stream:
        while part := stream.read(SAMPLE_BYTES):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _unpacked_digest(path: Path, *, packed: bool) -> Hashable:
    """sha256 of what a file holds; of a damaged one, which is like no other, its name."""
    digest = hashlib.sha256()
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            while part := stream.read(SAMPLE_BYTES):
                digest.update(part)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return str(path)
    return digest.hexdigest()


def image_files(path: Path, *, slide: bool) -> list[Path]:
    """Every file of an image: of a folder, of a header with its voxels beside it, of a slide in several parts."""
    if path.is_dir():
        return sorted(_below(path))
    data = _data_of(path)
    if data is not None:
        return [path, data]
    return sorted(slide_files(path)) if slide else [path]


def _below(folder: Path) -> list[Path]:
    """Every file below a folder; what in it may not be opened is passed over.

    Raises InputError for more files than one examination has: a slip of the pen names the whole disk.
    """
    found: list[Path] = []
    for place, _, names in os.walk(folder):
        found += [
            Path(file)
            for name in names
            if not name.startswith(BESIDE) and os.path.isfile(file := os.path.join(place, name))
        ]
        if len(found) > FILES_LIMIT:
            raise InputError(f"'{folder.name or folder}' holds more than {FILES_LIMIT} files; {OF_ONE}")
    return found


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
