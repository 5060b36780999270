"""Leakage: no patient, no file and no identical bytes on two sides of a split."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cmssd_core.slide.digest import slide_files
from cmssd_core.types import InputError

#: Columns of a cohort that put rows on sides; a row whose cell is empty is on none.
SIDES = ("split", "fold")
#: Headers whose voxels lie in another file of the same stem.
DETACHED = (".mhd", ".nhdr", ".hdr")
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
        """Bytes of a file; of a folder, of each file in it."""
        return tuple(sorted(file.stat().st_size for file in _files(self))) if self.path.is_dir() else self.stat.st_size


def refuse_leaks(
    table: pd.DataFrame, root: Path, *, slides: Iterable[str], images: Iterable[str], place: Callable[[Any, str], str]
) -> None:
    """Raise InputError where a patient, a slide or a scan stands on two sides of `split` or of `fold`.

    slides, images: columns of paths relative to `root`; all files must exist. The same file is known by path, link or
    bytes: files of equal size on different sides are compared by a sample, those that still agree by their sha256.
    place: row and column in words.
    """
    for sides in SIDES:
        side = table[sides].dropna()
        if side.nunique() < 2:
            continue
        side = side.map(lambda cell: cell if isinstance(cell, str) else f"fold {cell:g}")
        _refuse_patients(side, table.loc[side.index, "patient_id"], sides, place)
        for kind, columns in (("slide", slides), ("scan", images)):
            uses = [
                _Use(row, column, path, str(side[row]), path.stat())
                for column in columns
                for row, name in table.loc[side.index, column].dropna().items()
                for path in (root / str(name),)
            ]
            same = _shared(_groups(uses, lambda use: (use.stat.st_dev, use.stat.st_ino)), [])
            same = same or _shared(
                _groups(uses, lambda use: use.stat.st_size if use.path.is_file() else "folder"),
                [_Use.size, _sample, _digest],
            )
            if same:
                _refuse(*same, kind, sides, place)


def _refuse_patients(
    side: pd.Series[str], patient: pd.Series[str], sides: str, place: Callable[[Any, str], str]
) -> None:
    first = side.groupby(patient).transform("first")
    leak = side != first
    if leak.any():
        row: Any = leak.idxmax()
        raise InputError(
            f"{place(row, sides)}: patient {patient[row]!r} is in {first[row]} and in {side[row]}, expected each "
            f"patient in one {sides}; give all rows of a patient the same {sides}"
        )


def _refuse(one: _Use, other: _Use, kind: str, sides: str, place: Callable[[Any, str], str]) -> None:
    first = place(one.row, one.column).partition(", ")[2]
    raise InputError(
        f"{place(other.row, other.column)}: {other.path.name} is the same {kind} as {one.path.name} of {first}, "
        f"which is in {one.side} while this is in {other.side}; expected each {kind} in one {sides}; give both "
        f"rows the same {sides} or remove one"
    )


def _groups(uses: list[_Use], what: Callable[[_Use], Hashable]) -> list[list[_Use]]:
    """Uses that agree in `what` and stand on two sides or more."""
    found: dict[Hashable, list[_Use]] = defaultdict(list)
    for use in uses:
        found[what(use)].append(use)
    return [group for group in found.values() if len({use.side for use in group}) > 1]


def _shared(groups: list[list[_Use]], finer: list[Callable[[_Use], Hashable]]) -> tuple[_Use, _Use] | None:
    """Two uses on different sides that agree in all of `finer`, the cheapest question first."""
    for what in finer:
        groups = [smaller for group in groups for smaller in _groups(group, what)]
    if not groups:
        return None
    one = groups[0][0]
    return one, next(use for use in groups[0] if use.side != one.side)


def _files(use: _Use) -> list[Path]:
    """Every file the bytes of an image lie in."""
    path = use.path
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.suffix.lower() in DETACHED:
        return sorted(file for file in path.parent.glob(f"{path.stem}.*") if file.is_file())
    return sorted(slide_files(path)) if use.column == "slide" else [path]


def _sample(use: _Use) -> Hashable:
    """Start, middle and end of a file: differing scans of one size differ here."""
    parts = []
    for path in _files(use):
        size = path.stat().st_size
        with path.open("rb") as stream:
            for start in (0, size // 2, max(0, size - SAMPLE_BYTES)):
                stream.seek(start)
                parts.append(stream.read(SAMPLE_BYTES))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _digest(use: _Use) -> Hashable:
    digests = []
    for path in _files(use):
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return tuple(sorted(digests))
