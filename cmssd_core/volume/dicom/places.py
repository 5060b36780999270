"""Places: where the pictures of a series lie, and the even grid they must stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Finding, InputError
from cmssd_core.volume.dicom.frames import Frame

Vector = npt.NDArray[np.float64]

#: Nearer than this, in mm, two pictures lie at one place.
SAME_MM = 0.01
#: Beyond this share of interpolated slices the picture is more guess than scan.
_MISSING_LIMIT = 0.2


@dataclass(frozen=True, eq=False)
class Grid:
    """Where slices stand: origin and unit normal (LPS mm), slice spacing, the slot of each frame, remarks."""

    origin: Vector
    normal: Vector
    step_mm: float
    slots: tuple[int, ...]
    findings: tuple[Finding, ...] = ()


def placed(frames: Sequence[Frame]) -> bool:
    """Whether every frame says where it lies."""
    return frames[0].orientation is not None and all(frame.position is not None for frame in frames)


def along(frames: Sequence[Frame]) -> Vector:
    """The place of each frame along the normal of the first, mm."""
    return _positions(frames) @ _normal(frames[0])


def crowded(frames: Sequence[Frame]) -> bool:
    """Whether two frames lie at one place along the normal."""
    if len(frames) < 2 or not placed(frames):
        return False
    return bool(np.diff(np.sort(along(frames))).min() < SAME_MM)


def in_order(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Frames along the normal; as they came where their places are not said."""
    if not placed(frames):
        return tuple(frames)
    return tuple(frames[i] for i in np.argsort(along(frames), kind="stable"))


def grid(frames: Sequence[Frame], *, name: str, where: str) -> Grid:
    """The even grid of ordered frames. Raises InputError where they give none, or none a patient fits in."""
    first = frames[0]
    if not placed(frames) or first.spacing_mm is None or first.orientation is None:
        raise InputError(
            f"the header of '{name}' does not say where its pictures lie in the patient (position, orientation or "
            "pixel spacing is missing); export the original series"
        )
    normal = _normal(first)
    axes = [np.linalg.norm(first.orientation[:3]), np.linalg.norm(first.orientation[3:]), np.linalg.norm(normal)]
    if not np.allclose(axes, 1, atol=1e-2):
        raise InputError(f"the header of '{name}' gives an image orientation that is not rectangular; export it again")
    positions = _positions(frames)
    if len(frames) == 1:
        step = first.thickness_mm or first.gap_spacing_mm
        if not step or step <= 0:
            raise InputError(f"'{name}' is one slice whose header gives no thickness; give the whole series")
        return Grid(positions[0], normal, step, (0,))
    step, slots, gaps = _even(positions @ normal, name=name)
    _straight(positions, normal, min(first.spacing_mm), name=name)
    total = slots[-1] + 1
    findings: list[Finding] = []
    if total > len(slots):
        taken = set(slots)
        which = ", ".join(str(slot + 1) for slot in range(total) if slot not in taken)
        what = f"slice {which} of {total} is missing and was interpolated from its neighbours; "
        findings.append(Finding("severe", what + "areas and severity there are not measured", where))
    uneven = float(np.abs(gaps / np.diff(slots) - step).max())
    if uneven > 0.02 * step:
        what = f"slice distances vary by up to {uneven:.2f} mm; the mean of {step:.2f} mm is used"
        findings.append(Finding("warning", what, where))
    findings.extend(_thinned(first, step, where=where))
    findings.extend(_skipped(frames, step, where=where))
    return Grid(positions[0], normal, step, slots, tuple(findings))


def _even(at: Vector, *, name: str) -> tuple[float, tuple[int, ...], Vector]:
    """Step in mm, slots and the gaps between neighbours of places along the normal, in order."""
    gaps = np.diff(at)
    if gaps.min() < SAME_MM:
        raise InputError(
            f"'{name}' holds several pictures at one slice position that neither type, echo, b-value, "
            "stack, time point, acquisition nor trigger tells apart; give the pictures of one image"
        )
    step = float(np.median(gaps))
    if gaps.min() < 0.6 * step:
        # With every second slice lost the median is the doubled gap; the smallest is the true one.
        step = float(gaps.min())
    slots = np.rint((at - at[0]) / step).astype(int)
    if len(set(slots.tolist())) < len(slots) or np.abs(gaps / np.diff(slots) - step).max() > 0.1 * step:
        raise InputError(
            f"'{name}' has slices at uneven distances ({gaps.min():.2f} to {gaps.max():.2f} mm); "
            "give a series with even spacing"
        )
    total = int(slots[-1]) + 1
    if total - len(slots) > _MISSING_LIMIT * total:
        raise InputError(
            f"'{name}' lacks {total - len(slots)} of {total} slices between its first and last; give the whole series"
        )
    return float((at[-1] - at[0]) / slots[-1]), tuple(slots.tolist()), gaps


def _straight(positions: Vector, normal: Vector, pixel_mm: float, *, name: str) -> None:
    """Raises InputError where slices do not stand on each other: all of them ever farther aside, or one of them."""
    offsets = positions - positions[0]
    heights = offsets @ normal
    aside = offsets - heights[:, None] * normal
    tilt = np.degrees(np.arctan2(np.linalg.norm(aside[-1]), abs(heights[-1])))
    bent = np.linalg.norm(aside - (heights / heights[-1])[:, None] * aside[-1], axis=1)
    if bent.max() > max(0.1, 0.1 * pixel_mm):
        raise InputError(
            f"'{name}' has slices that do not stand on each other: slice {int(bent.argmax()) + 1} of {len(bent)} lies "
            f"{bent.max():.1f} mm aside; export the original series"
        )
    if tilt > 1 or np.linalg.norm(aside[-1]) > max(1.0, pixel_mm):
        raise InputError(
            f"'{name}' was scanned with a tilted gantry ({tilt:.1f} degrees): its slices do not stand on each other; "
            "give a series corrected for tilt"
        )


def _thinned(first: Frame, step_mm: float, *, where: str) -> tuple[Finding, ...]:
    """A remark where the header says other distances than the places do: slices were lost, or it is wrong."""
    said, thick = first.gap_spacing_mm, first.thickness_mm or 0.0
    # Some makers say the empty gap between two slices where the standard asks for the distance of their middles.
    if not said or any(abs(abs(each) - step_mm) <= 0.1 * step_mm for each in (said, said + thick)):
        return ()
    what = f"the header says slices {abs(said):.2f} mm apart, their places say {step_mm:.2f} mm, which is used"
    return (Finding("warning", what, where),)


def _skipped(frames: Sequence[Frame], step_mm: float, *, where: str) -> tuple[Finding, ...]:
    """A remark where slices stand as far apart as every second (third, ...) of a closed series would."""
    thick = frames[0].thickness_mm or 0.0
    times = round(step_mm / thick) if thick > 0 else 1
    if times < 2 or abs(step_mm - times * thick) > 0.05 * step_mm:
        return ()
    what = f"slices are {thick:g} mm thick and {step_mm:g} mm apart: the tissue between them was not seen"
    counted = [frame.instance for frame in frames if frame.instance is not None]
    if len(counted) == len(frames) and set(np.abs(np.diff(counted)).tolist()) == {times}:
        what += f", and they are numbered in steps of {times}: the files between them may be lost"
        return (Finding("severe", what, where),)
    return (Finding("warning", what, where),)


def _normal(frame: Frame) -> Vector:
    assert frame.orientation is not None
    normal: Vector = np.cross(frame.orientation[:3], frame.orientation[3:])
    return normal


def _positions(frames: Sequence[Frame]) -> Vector:
    return np.stack([frame.position for frame in frames if frame.position is not None])
