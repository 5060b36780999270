"""DICOM: loose files become series, and a series becomes a Stack on its true slice positions.

A slice missing between others is interpolated linearly on the regular grid the others span, and a severe finding
names it; a slice missing at an end cannot be seen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Affine, BoolArray, Finding, FloatArray, InputError
from cmssd_core.volume.contrasts import CONTRASTS
from cmssd_core.volume.dicom.frames import Frame, frames_of
from cmssd_core.volume.dicom.grouping import Series, group
from cmssd_core.volume.dicom.headers import (
    DAMAGED,
    SLIDE_SUFFIXES,
    describe_refusal,
    header,
    looks_dicom,
    names,
    refusal,
)  # fmt: skip
from cmssd_core.volume.dicom.places import grid
from cmssd_core.volume.dicom.rivals import Survey
from cmssd_core.volume.dicom.uptake import suv_factor
from cmssd_core.volume.origin import of_two_people
from cmssd_core.volume.qc import single_slice
from cmssd_core.volume.stack import Stack, sound

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def survey(files: Sequence[Path], *, name: str, limit_mb: int) -> Survey:
    """The series among `files`, from their headers but for copies; files that are no DICOM are passed over.

    Raises InputError where no image is among them, most are damaged, or images of two patients are.
    """
    frames: list[Frame] = []
    others: Counter[str] = Counter()
    strange: list[Path] = []
    lost: list[Path] = []
    first_problem: InputError | None = None
    for path in files:
        head = header(path)
        if head is None:
            strange.append(path)
            continue
        what = refusal(head)
        if what and "DICOMDIR" in what:
            continue
        try:
            if what:
                raise describe_refusal(what, path.name)
            frames.extend(frames_of(path, head))
        except InputError as problem:
            first_problem = first_problem or problem
            if what == DAMAGED or problem.__cause__:
                lost.append(path)
            else:
                others[what or "a file of frames without positions"] += 1
    read = {frame.path for frame in frames}
    lost += [path for path in strange if looks_dicom(path, like=read)]
    if not frames and first_problem is None and any(path.name.lower().endswith(SLIDE_SUFFIXES) for path in files):
        raise InputError(
            f"'{name}' holds pictures or slides, not an MRI; if it is the H&E slide, pass it as that", "he"
        )
    if not frames and first_problem is not None:
        raise first_problem
    if len(lost) > len(read):
        raise InputError(
            f"of the DICOM files of '{name}', {len(lost)} are empty, cut short or damaged ({names(lost)}) and "
            f"{len(read)} can be read; copy or export them again"
        )
    if not frames:
        raise InputError(
            f"'{name}' holds no DICOM image; expected the files of an MR series, or a .nii, .nii.gz, .nrrd or .mha"
        )
    if of_two_people(frame.origin for frame in frames):
        raise InputError(f"'{name}' holds images of different patients; give the files of one patient")
    return Survey(series=group(frames, limit_mb=limit_mb), others=others, lost=tuple(lost))


def stack(series: Series, *, contrast: str, name: str, limit_mb: int, findings: tuple[Finding, ...] = ()) -> Stack:
    """The pixels of a series on its true grid. Raises InputError where the header gives no usable, even geometry."""
    frames = series.frames
    where = f"mri {contrast}"
    if any(frame.inverted for frame in frames):
        raise InputError(f"'{name}' stores its greys inverted (MONOCHROME1); export it as MONOCHROME2")
    if any(frame.tabled for frame in frames):
        raise InputError(f"'{name}' says its values through a table (Modality LUT); export it with a rescale slope")
    rows, columns = frames[0].shape
    if rows * columns * len(frames) * 4 > limit_mb << 20:
        raise InputError(
            f"'{name}' unpacks to more than {limit_mb} MB; give fewer slices or raise CMSSD_UNPACKED_LIMIT_MB"
        )
    places = grid(frames, name=name, where=where)
    notes = (*findings, *places.findings, *_remarks(series, where=where))
    pixels, empty = _pixels(frames, limit_mb=limit_mb)
    if empty.any():
        _fill(pixels, empty, CONTRASTS[contrast].air, name=name)
        what = f"{100 * float(empty.mean()):.2g} % of the voxels are padding by the header and are read as air"
        notes += (Finding("info", what, where),)
    pixels = _filled(pixels, places.slots)
    factor, note = _uptake(frames, where=where)
    pixels = pixels if factor is None else pixels * np.float32(factor)
    notes += () if note is None else (note,)
    affine = np.eye(4)
    assert frames[0].orientation is not None
    assert frames[0].spacing_mm is not None
    affine[:3, 0] = frames[0].orientation[:3] * frames[0].spacing_mm[1]
    affine[:3, 1] = frames[0].orientation[3:] * frames[0].spacing_mm[0]
    affine[:3, 2] = places.normal * places.step_mm
    affine[:3, 3] = places.origin
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
        origin=frames[0].origin,
        frame_of_reference=frames[0].frame_of_reference,
    )


def _remarks(series: Series, *, where: str) -> tuple[Finding, ...]:
    notes = [
        Finding("severe", f"the header says that {words}; look before the images are shared", where)
        for words in dict.fromkeys(words for frame in series.frames for words in frame.private)
    ]
    if len({frame.frame_of_reference for frame in series.frames} - {None}) > 1:
        what = "slices of one series name different frames of reference: the patient may have moved between them"
        notes.append(Finding("severe", what, where))
    if series.joined > 1:
        what = f"{series.joined} series by their identifiers agree in all else and were joined into one"
        notes.append(Finding("warning", what, where))
    if series.duplicates:
        notes.append(Finding("info", f"{series.duplicates} duplicate slice(s) left out", where))
    return tuple(notes)


def _pixels(frames: tuple[Frame, ...], *, limit_mb: int) -> tuple[FloatArray, BoolArray]:
    """Rescaled values and where the header says there is no picture, both (slice, y, x)."""
    from cmssd_core.volume.dicom.pixels import read_stored  # brings pydicom, which an image file need not wait for

    out = np.empty((len(frames), *frames[0].shape), dtype=np.float32)
    empty = np.zeros(out.shape, dtype=bool)
    opened: dict[Path, npt.NDArray[Any]] = {}
    for i, frame in enumerate(frames):
        if frame.path not in opened:
            opened = {frame.path: read_stored(frame.path, limit_mb=limit_mb)}
        stored = opened[frame.path][frame.index]
        with np.errstate(over="ignore"):  # what does not fit is infinite, and refused as that
            out[i] = stored.astype(np.float64) * frame.slope + frame.intercept
        if frame.padding is not None:
            empty[i] = (stored >= frame.padding[0]) & (stored <= frame.padding[1])
    return out, empty


def _fill(pixels: FloatArray, empty: BoolArray, air: float | None, *, name: str) -> None:
    """Air where there is no picture: what the contrast measures there, else the least that the scan measured."""
    if empty.all():
        raise InputError(f"'{name}' holds nothing but padding by its header; export it again")
    pixels[empty] = float(pixels[~empty].min()) if air is None else air


def _uptake(frames: tuple[Frame, ...], *, where: str) -> tuple[float | None, Finding | None]:
    """What multiplies a PET into SUV and a remark on it; None and None for all else."""
    headers = [frame.pet for frame in frames if frame.pet is not None]
    if not headers:
        return None, None
    factor, how = suv_factor(headers)
    if factor is None:
        what = f"is not in SUV and cannot be brought to it: {how}; a model that reads PET would misread it"
        return None, Finding("severe", what, where)
    return factor, Finding("info", f"in SUV by body weight: {how}", where)


def _filled(pixels: FloatArray, slots: tuple[int, ...]) -> FloatArray:
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


def _digest(paths: set[Path], frames: tuple[Frame, ...]) -> str:
    parts = []
    for path in paths:
        with path.open("rb") as handle:
            parts.append(hashlib.file_digest(handle, "sha256").hexdigest())
    # One enhanced file may hold two images; which frames were taken is then part of what was read.
    taken = sorted(frame.index for frame in frames) if len(paths) == 1 and len(frames) > 1 else []
    return hashlib.sha256("".join([*sorted(parts), *map(str, taken)]).encode()).hexdigest()
