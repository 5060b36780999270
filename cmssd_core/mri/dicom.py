"""DICOM: loose files become series, and a series becomes a Stack on its true slice positions.

A slice missing between others is interpolated linearly on the regular grid the others span, and a severe finding
names it; a slice missing at an end cannot be seen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cmssd_core.mri.contrast import ask, classify
from cmssd_core.mri.frames import SLIDE_SUFFIXES, Frame, frames_of, header, refusal, refused
from cmssd_core.mri.pixels import stored
from cmssd_core.mri.qc import single_slice
from cmssd_core.mri.stack import Stack, sound
from cmssd_core.types import Affine, Finding, FloatArray, InputError

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Beyond this share of interpolated slices the picture is more guess than scan.
_MISSING_LIMIT = 0.2


@dataclass(frozen=True, eq=False)
class Series:
    """Frames of one series that share grid and contrast, each at a place of its own, ordered along the slice normal.

    what: the series in words that name no person. contrast None = not one that CM-SSD uses.
    """

    frames: tuple[Frame, ...]
    contrast: str | None
    what: str
    duplicates: int = 0

    @property
    def described(self) -> str:
        """The series in words with its number of slices."""
        return f"{self.what} ({len(self.frames)} slice{'' if len(self.frames) == 1 else 's'})"


@dataclass(frozen=True, eq=False)
class Survey:
    """What a set of files holds: series, and how many DICOM objects of other kinds, in words."""

    series: tuple[Series, ...]
    others: Counter[str]


def survey(files: Sequence[Path], *, name: str) -> Survey:
    """The series among `files` from their headers alone; files that are no DICOM are passed over.

    Raises InputError where no image is among them, or images of two patients are.
    """
    frames: list[Frame] = []
    others: Counter[str] = Counter()
    first_problem: InputError | None = None
    for path in files:
        head = header(path)
        if head is None:
            continue
        what = refusal(head)
        if what:
            if "DICOMDIR" not in what:
                others[what] += 1
                first_problem = first_problem or refused(what, path.name)
            continue
        try:
            frames.extend(frames_of(path, head))
        except InputError as problem:
            others["a file of frames without positions"] += 1
            first_problem = first_problem or problem
        except (AttributeError, TypeError, ValueError) as error:
            others["a file with a damaged header"] += 1
            first_problem = first_problem or InputError(f"the header of '{path.name}' is damaged; export it again")
            first_problem.__cause__ = error
    if not frames and first_problem is None and any(path.name.lower().endswith(SLIDE_SUFFIXES) for path in files):
        raise InputError(f"'{name}' holds pictures or slides, not an MRI; if it is the H&E slide, pass it as --he")
    if not frames:
        raise first_problem or InputError(
            f"'{name}' holds no DICOM image; expected the files of an MR series, or a .nii, .nii.gz, .nrrd or .mha"
        )
    if len({frame.patient for frame in frames if frame.patient}) > 1:
        raise InputError(f"'{name}' holds images of different patients; give the files of one patient")
    return Survey(series=tuple(_series(frames)), others=others)


def choose(found: Survey, *, name: str) -> tuple[dict[str, Series], tuple[Finding, ...]]:
    """One series for each contrast the headers tell, and findings on what is not used. InputError where none is."""
    chosen: dict[str, Series] = {}
    findings: list[Finding] = []
    for series in found.series:
        if series.contrast is None:
            findings.append(Finding("info", f"a series is not used: {series.described}", "mri"))
    for contrast in sorted({series.contrast for series in found.series if series.contrast}):
        rivals = [series for series in found.series if series.contrast == contrast]
        chosen[contrast] = _largest(rivals)
        if len(rivals) > 1:
            findings.append(_rivalry(rivals, contrast))
    if not chosen:
        words = "; ".join(f"{n} x {what}" for what, n in Counter(s.described for s in found.series).items())
        raise ask(name, f"from its headers (found {words})")
    findings.extend(
        Finding("info", f"{n} file{'s' if n > 1 else ''} not used: {what}", "mri")
        for what, n in found.others.items()
        if what != "slide"
    )
    return chosen, tuple(findings)


def matching(found: Survey, contrast: str, *, name: str) -> tuple[Series, tuple[Finding, ...]]:
    """The series the user means by `contrast`. Raises InputError where the modality contradicts the word."""
    modality = {"ct": "CT", "pet": "PT"}.get(contrast, "MR")
    able = [series for series in found.series if series.frames[0].seen.modality == modality]
    if not able:
        raise InputError(
            f"'{name}' was given as {contrast} but its header says {found.series[0].frames[0].seen.modality}; "
            "name the contrast it is"
        )
    unsaid = [series for series in able if series.contrast is None and "localizer" not in series.what]
    rivals = [series for series in able if series.contrast == contrast] or unsaid or able
    series = _largest(rivals)
    findings = [_rivalry(rivals, contrast)] if len(rivals) > 1 else []
    if series.contrast not in (None, contrast):
        findings.append(
            Finding("warning", f"was given as {contrast}, but its header describes {series.what}", f"mri {contrast}")
        )
    return series, tuple(findings)


def stack(series: Series, *, contrast: str, name: str, limit_mb: int, findings: tuple[Finding, ...] = ()) -> Stack:
    """The pixels of a series on its true grid. Raises InputError where the header gives no usable, even geometry."""
    frames = series.frames
    where = f"mri {contrast}"
    if frames[0].inverted:
        raise InputError(f"'{name}' stores its greys inverted (MONOCHROME1); export it as MONOCHROME2")
    rows, columns = frames[0].shape
    if rows * columns * len(frames) * 4 > limit_mb << 20:
        raise InputError(
            f"'{name}' unpacks to more than {limit_mb} MB; give fewer slices or raise CMSSD_UNPACKED_LIMIT_MB"
        )
    origin, normal, step_mm, slots, notes = _places(frames, name=name, where=where)
    notes = (*findings, *notes)
    if series.duplicates:
        notes += (Finding("info", f"{series.duplicates} duplicate slice(s) left out", where),)
    pixels = _filled(_pixels(frames), slots)
    affine = np.eye(4)
    assert frames[0].orientation is not None
    assert frames[0].spacing_mm is not None
    affine[:3, 0] = frames[0].orientation[:3] * frames[0].spacing_mm[1]
    affine[:3, 1] = frames[0].orientation[3:] * frames[0].spacing_mm[0]
    affine[:3, 2] = normal * step_mm
    affine[:3, 3] = origin
    ras: Affine = _LPS_RAS @ affine
    sound(pixels, ras, name=name)
    if len(frames) == 1:
        notes += (single_slice(contrast),)
    return Stack(
        contrast=contrast,
        voxels=pixels,
        affine=ras,
        digest=_digest({frame.path for frame in frames}, frames),
        findings=notes,
        patient=frames[0].patient or None,
        frame_of_reference=frames[0].frame_of_reference,
    )


def _series(frames: list[Frame]) -> list[Series]:
    groups: list[list[Frame]] = []
    for frame in frames:
        home = next((group for group in groups if _together(group[0], frame)), None)
        if home is None:
            groups.append([frame])
        else:
            home.append(frame)
    found: list[Series] = []
    for group in groups:
        unique = list({(frame.uid, frame.index): frame for frame in group}.values())
        for part in _apart(unique):
            contrast, what = classify(part[0].seen)
            dropped = len(group) - len(unique) if part is not None else 0
            found.append(Series(tuple(_sorted(part)), contrast, what, dropped))
    return sorted(found, key=lambda series: (series.frames[0].number, -len(series.frames)))


def _together(one: Frame, other: Frame) -> bool:
    if one.series != other.series or one.shape != other.shape or one.seen.modality != other.seen.modality:
        return False
    if (one.orientation is None) != (other.orientation is None) or (one.spacing_mm is None) != (
        other.spacing_mm is None
    ):
        return False
    # Compared, not rounded: rounding would split a series whose angles lie on the edge of a digit.
    if (
        one.orientation is not None
        and other.orientation is not None
        and not np.allclose(one.orientation, other.orientation, atol=5e-3)
    ):
        return False
    if one.spacing_mm is not None and other.spacing_mm is not None:
        return bool(np.allclose(one.spacing_mm, other.spacing_mm, rtol=1e-3))
    return True


def _apart(frames: list[Frame]) -> list[list[Frame]]:
    """Frames at one place are told apart by the fewest header fields that do so; else they stay together."""
    if not _crowded(frames):
        return [frames]
    keys = list(frames[0].apart)
    for tried in [(key,) for key in keys] + [tuple(keys[: n + 1]) for n in range(1, len(keys))]:
        parts: dict[tuple[str, ...], list[Frame]] = {}
        for frame in frames:
            parts.setdefault(tuple(str(frame.apart[key]) for key in tried), []).append(frame)
        if len(parts) > 1 and not any(_crowded(part) for part in parts.values()):
            return list(parts.values())
    return [frames]


def _crowded(frames: list[Frame]) -> bool:
    if frames[0].orientation is None or any(frame.position is None for frame in frames):
        return False
    along = np.sort(_along(frames))
    return bool(len(along) > 1 and np.diff(along).min() < 0.01)


def _sorted(frames: list[Frame]) -> list[Frame]:
    if frames[0].orientation is None or any(frame.position is None for frame in frames):
        return frames
    return [frames[i] for i in np.argsort(_along(frames), kind="stable")]


def _normal(frame: Frame) -> npt.NDArray[np.float64]:
    assert frame.orientation is not None
    normal: npt.NDArray[np.float64] = np.cross(frame.orientation[:3], frame.orientation[3:])
    return normal


def _along(frames: Sequence[Frame]) -> npt.NDArray[np.float64]:
    return np.stack([frame.position for frame in frames if frame.position is not None]) @ _normal(frames[0])


def _places(
    frames: tuple[Frame, ...], *, name: str, where: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float, list[int], tuple[Finding, ...]]:
    """Origin, unit normal (LPS), slice spacing in mm, the slot of each frame on the regular grid, findings."""
    first = frames[0]
    if first.orientation is None or first.spacing_mm is None or any(frame.position is None for frame in frames):
        raise InputError(
            f"the header of '{name}' does not say where its pictures lie in the patient (position, orientation or "
            "pixel spacing is missing); export the original series"
        )
    normal = _normal(first)
    axes = [np.linalg.norm(first.orientation[:3]), np.linalg.norm(first.orientation[3:]), np.linalg.norm(normal)]
    if not np.allclose(axes, 1, atol=1e-2):
        raise InputError(f"the header of '{name}' gives an image orientation that is not rectangular; export it again")
    positions = np.stack([frame.position for frame in frames if frame.position is not None])
    if len(frames) == 1:
        step = first.thickness_mm or first.gap_spacing_mm
        if not step or step <= 0:
            raise InputError(f"'{name}' is one slice whose header gives no thickness; give the whole series")
        return positions[0], normal, step, [0], ()
    along = positions @ normal
    gaps = np.diff(along)
    if gaps.min() < 0.01:
        raise InputError(
            f"'{name}' holds several pictures at one slice position that nothing in their headers tells apart; "
            "give one series"
        )
    step = float(np.median(gaps))
    if gaps.min() < 0.6 * step:
        # With every second slice lost the median is the doubled gap; the smallest is the true one.
        step = float(gaps.min())
    slots_exact = (along - along[0]) / step
    slots = np.rint(slots_exact).astype(int)
    if len(set(slots.tolist())) < len(slots) or np.abs(gaps / np.diff(slots) - step).max() > 0.1 * step:
        raise InputError(
            f"'{name}' has slices at uneven distances ({gaps.min():.2f} to {gaps.max():.2f} mm); "
            "give a series with even spacing"
        )
    step = float((along[-1] - along[0]) / slots[-1])
    drift = positions[-1] - positions[0]
    tilt = np.degrees(np.arctan2(np.linalg.norm(drift - normal * (drift @ normal)), abs(drift @ normal)))
    if tilt > 1:
        raise InputError(
            f"'{name}' was scanned with a tilted gantry ({tilt:.0f} degrees): its slices do not stand on each other; "
            "give a series corrected for tilt"
        )
    total = int(slots[-1]) + 1
    missing = sorted(set(range(total)) - set(slots.tolist()))
    if len(missing) > _MISSING_LIMIT * total:
        raise InputError(
            f"'{name}' lacks {len(missing)} of {total} slices between its first and last; give the whole series"
        )
    findings: tuple[Finding, ...] = ()
    if missing:
        which = ", ".join(str(slot + 1) for slot in missing)
        findings = (
            Finding(
                "severe",
                f"slice {which} of {total} is missing and was interpolated from its neighbours; "
                "areas and severity there are not measured",
                where,
            ),
        )
    even = np.abs(gaps / np.diff(slots) - step).max()
    if even > 0.02 * step:
        findings += (
            Finding(
                "warning", f"slice distances vary by up to {even:.2f} mm; the mean of {step:.2f} mm is used", where
            ),
        )
    return positions[0], normal, step, slots.tolist(), findings


def _pixels(frames: tuple[Frame, ...]) -> FloatArray:
    out = np.empty((len(frames), *frames[0].shape), dtype=np.float32)
    opened: dict[Path, npt.NDArray[np.generic]] = {}
    for i, frame in enumerate(frames):
        if frame.path not in opened:
            opened = {frame.path: stored(frame.path)}
        out[i] = opened[frame.path][frame.index].astype(np.float64) * frame.slope + frame.intercept
    return out


def _filled(pixels: FloatArray, slots: list[int]) -> FloatArray:
    total = slots[-1] + 1
    if total == len(slots):
        return pixels
    out = np.empty((total, *pixels.shape[1:]), dtype=np.float32)
    for slot in range(total):
        upper = int(np.searchsorted(slots, slot))
        if slots[upper] == slot:
            out[slot] = pixels[upper]
        else:
            below, above = slots[upper - 1], slots[upper]
            share = (slot - below) / (above - below)
            out[slot] = (1 - share) * pixels[upper - 1] + share * pixels[upper]
    return out


def _largest(rivals: list[Series]) -> Series:
    return min(
        rivals, key=lambda series: (-len(series.frames), series.frames[0].enhanced_by_agent, series.frames[0].number)
    )


def _rivalry(rivals: list[Series], contrast: str) -> Finding:
    sizes = ", ".join(str(len(series.frames)) for series in rivals[:6]) + (", ..." if len(rivals) > 6 else "")
    return Finding(
        "warning",
        f"{len(rivals)} series could be this contrast ({sizes} slices); the one with most slices is used, of equals "
        "the first without contrast agent",
        f"mri {contrast}",
    )


def _digest(paths: set[Path], frames: tuple[Frame, ...]) -> str:
    parts = []
    for path in paths:
        with path.open("rb") as handle:
            parts.append(hashlib.file_digest(handle, "sha256").hexdigest())
    # One enhanced file may hold two images; which frames were taken is then part of what was read.
    taken = sorted(frame.index for frame in frames) if len(paths) == 1 and len(frames) > 1 else []
    return hashlib.sha256("".join([*sorted(parts), *map(str, taken)]).encode()).hexdigest()
