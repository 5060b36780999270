"""Grouping: loose frames become series; what must not be one image is parted, what is one is joined."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import InputError
from cmssd_core.volume.contrast import classify
from cmssd_core.volume.dicom.frames import Frame
from cmssd_core.volume.dicom.places import SAME_MM, along, crowded, in_order, placed
from cmssd_core.volume.origin import of_one_examination

#: A study has no more views of one look; what has, as a rotating projection, is no examination in slices.
_MOST_VIEWS = 256
#: From so many series of one picture each on, they are one series whose maker gave each picture a number of its own.
_SINGLES = 3


@dataclass(frozen=True, eq=False)
class Series:
    """Frames of one series that share grid and contrast, each at a place of its own, ordered along the slice normal.

    what: the series in words that name no person. contrast None = not one that CM-SSD uses. duplicates: pictures left
    out because they were there twice. joined: how many series by their own identifiers it was made of.
    """

    frames: tuple[Frame, ...]
    contrast: str | None
    what: str
    duplicates: int = 0
    joined: int = 1

    @property
    def described(self) -> str:
        """The series in words with its number of slices."""
        return f"{self.what} ({len(self.frames)} slice{'' if len(self.frames) == 1 else 's'})"


def group(frames: Sequence[Frame], *, limit_mb: int) -> tuple[Series, ...]:
    """The series among frames of any order. Pixels are read, of files up to `limit_mb`, only where two frames may be
    one picture copied."""
    groups = _alike(frames, key=_identity)
    found: list[Series] = []
    for groups_of_one_look in _by_look(groups):
        together = [frame for members in groups_of_one_look for frame in members]
        unique = _unique(together, limit_mb=limit_mb) if _one_series(groups_of_one_look) else together
        if len(groups_of_one_look) > 1 and _one_series(groups_of_one_look) and not crowded(unique):
            found.append(_series(unique, len(together) - len(unique), len(groups_of_one_look)))
            continue
        for members in groups_of_one_look:
            own = _unique(members, limit_mb=limit_mb)
            found.extend(_series(part, len(members) - len(own)) for part in _apart(own))
    return tuple(sorted(found, key=lambda series: (series.frames[0].number, -len(series.frames), _first(series))))


def _series(frames: Sequence[Frame], duplicates: int, joined: int = 1) -> Series:
    contrast, what = classify(frames[0].seen)
    return Series(in_order(frames), contrast, what, duplicates, joined)


def _first(series: Series) -> str:
    return min(frame.uid for frame in series.frames)


def _look(frame: Frame) -> tuple[Any, ...]:
    """What pictures of one image share, whatever their identifiers say."""
    parting = tuple(str(frame.apart[key]) for key in ("kind", "component", "b-value", "stack"))
    return frame.shape, frame.seen.modality, frame.seen.descriptions, frame.frame_of_reference, parting


def _identity(frame: Frame) -> tuple[Any, ...]:
    return frame.series, frame.origin.study, *_look(frame)[:2], _look(frame)[4]


def _alike(frames: Sequence[Frame], *, key: Any) -> list[list[Frame]]:
    """Frames with one key, one direction, one pixel size and one echo."""
    keyed: dict[tuple[Any, ...], list[list[Frame]]] = {}
    for frame in frames:
        homes = keyed.setdefault(key(frame), [])
        home = next((members for members in homes if _fits(members[0], frame)), None)
        if home is not None:
            home.append(frame)
        elif len(homes) < _MOST_VIEWS:
            homes.append([frame])
        else:
            raise InputError(
                f"'{frame.path.name}' belongs to pictures in more than {_MOST_VIEWS} directions, which stand on no "
                "common grid; give series of parallel slices"
            )
    return [members for homes in keyed.values() for members in homes]


def _fits(one: Frame, other: Frame) -> bool:
    # Compared, not rounded: rounding would split a series whose angles lie on the edge of a digit.
    return (
        _close(one.orientation, other.orientation, atol=5e-3)
        and _close(one.spacing_mm, other.spacing_mm, rtol=1e-3)
        and _close(one.seen.echo_ms, other.seen.echo_ms, rtol=0.1)
    )


def _close(one: Any, other: Any, *, atol: float = 0.0, rtol: float = 0.0) -> bool:
    if one is None or other is None:
        return one is other
    pairs = zip(np.atleast_1d(one).tolist(), np.atleast_1d(other).tolist(), strict=True)
    return all(abs(a - b) <= atol + rtol * abs(b) for a, b in pairs)


def _by_look(groups: list[list[Frame]]) -> list[list[list[Frame]]]:
    """Groups that differ in their identifiers alone, together."""
    looks: dict[tuple[Any, ...], list[list[list[Frame]]]] = {}
    for members in groups:
        first = members[0]
        homes = looks.setdefault(_look(first), [])
        home = next((home for home in homes if _fits(home[0][0], first) and _one_visit(home[0][0], first)), None)
        if home is None:
            homes.append([members])
        else:
            home.append(members)
    return [home for homes in looks.values() for home in homes]


def _one_visit(one: Frame, other: Frame) -> bool:
    return of_one_examination(one.origin, other.origin)


def _one_series(groups: list[list[Frame]]) -> bool:
    """Whether groups of one look are one series: its number is that of all, or each is a single picture."""
    numbers = {members[0].number for members in groups}
    singles = len(groups) >= _SINGLES and all(len(members) == 1 for members in groups)
    return len(groups) == 1 or (len(numbers) == 1 and numbers != {0}) or singles


def _unique(frames: list[Frame], *, limit_mb: int) -> list[Frame]:
    """Frames without copies: a copy lies at the same place, is told apart by nothing and has the same pixels."""
    if not crowded(frames):
        return frames
    order = np.argsort(along(frames), kind="stable")
    clusters: list[list[Frame]] = []
    for frame in (frames[i] for i in order):
        home = next((c for c in reversed(clusters[-8:]) if _at_one_place(c[0], frame)), None)
        if home is None:
            clusters.append([frame])
        else:
            home.append(frame)
    kept: list[Frame] = []
    read: dict[Path, npt.NDArray[Any]] = {}
    for cluster in clusters:
        pictures: dict[str, Frame] = {}
        for frame in sorted(cluster, key=lambda frame: (frame.uid, frame.index)):
            pictures.setdefault(_picture(frame, read, limit_mb) if len(cluster) > 1 else "", frame)
        kept.extend(pictures.values())
    return kept


def _at_one_place(one: Frame, other: Frame) -> bool:
    assert one.position is not None
    assert other.position is not None
    return bool(np.abs(one.position - other.position).max() < SAME_MM) and one.apart == other.apart


def _picture(frame: Frame, read: dict[Path, npt.NDArray[Any]], limit_mb: int) -> str:
    """What tells a picture from another: its values; itself alone where they cannot be read. read: the last file."""
    from cmssd_core.volume.dicom.pixels import read_stored  # brings pydicom, which an image file need not wait for

    itself = f"{frame.path}#{frame.index}"
    if frame.shape[0] * frame.shape[1] * 4 > limit_mb << 20:
        return itself
    if frame.path not in read:
        try:
            stored = read_stored(frame.path, limit_mb=limit_mb)
        except InputError:
            return itself
        read.clear()
        read[frame.path] = stored
    rescaled = (read[frame.path][frame.index].astype(np.float64) * frame.slope + frame.intercept).tobytes()
    return hashlib.sha256(rescaled).hexdigest()


def _apart(frames: list[Frame]) -> list[list[Frame]]:
    """Frames at one place are told apart by the fewest header fields that do so; else they stay together."""
    if not placed(frames) or not crowded(frames):
        return [frames]
    keys = list(frames[0].apart)
    for tried in [(key,) for key in keys] + [tuple(keys[: n + 1]) for n in range(1, len(keys))]:
        parts: dict[tuple[str, ...], list[Frame]] = {}
        for frame in frames:
            parts.setdefault(tuple(str(frame.apart[key]) for key in tried), []).append(frame)
        if len(parts) > 1 and not any(crowded(part) for part in parts.values()):
            return list(parts.values())
    return [frames]
