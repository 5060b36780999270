"""Frames: where each picture of a DICOM file lies and what it shows, from its headers alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import InputError
from cmssd_core.volume.contrast import Appearance
from cmssd_core.volume.contrasts import MR, PT
from cmssd_core.volume.dicom.headers import DAMAGED, Header, describe_refusal
from cmssd_core.volume.dicom.uptake import PetHeader, read_pet_header
from cmssd_core.volume.origin import Origin

#: Farther from the scanner's middle, in mm, nothing of a patient lies.
_FARTHEST_MM = 1e5
_PRIVATE = {
    "BurnedInAnnotation": "names or dates are burned into the picture",
    "RecognizableVisualFeatures": "the person can be recognised in the picture",
}


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a DICOM file.

    position, orientation: LPS mm as DICOM gives them; spacing_mm: (between rows, between columns); None = not said.
    pet: what the unit of a PET is made from, None for other modalities.
    apart: what may tell pictures at one place from each other (echo, b-value, time, ...).
    instance: its number within the series, None in a file of several frames.
    tabled: whether a table, which is not applied, says what the stored values mean.
    padding: the stored values that stand for no picture, least and greatest. private: whether the header says that
    names are burned into the picture or a face can be seen in it, in words.
    origin, series, frame_of_reference and uid are compared, never shown.
    """

    path: Path
    index: int
    shape: tuple[int, int]
    position: npt.NDArray[np.float64] | None
    orientation: npt.NDArray[np.float64] | None
    spacing_mm: tuple[float, float] | None
    thickness_mm: float | None
    gap_spacing_mm: float | None
    tabled: bool
    slope: float
    intercept: float
    inverted: bool
    seen: Appearance
    pet: PetHeader | None
    apart: dict[str, Any]
    number: int
    instance: int | None
    enhanced_by_agent: bool
    padding: tuple[int, int] | None
    private: tuple[str, ...]
    origin: Origin
    series: str
    frame_of_reference: str | None
    uid: str
    transfer_syntax: str


def frames_of(path: Path, head: Header) -> tuple[Frame, ...]:
    """The frames of one file for which `refusal` is None. Raises InputError where several lie in it unplaced, or
    where a field holds what it cannot hold."""
    try:
        return _frames_of(path, head)
    except InputError:
        raise
    except Exception as error:
        raise describe_refusal(DAMAGED, path.name) from error


def _frames_of(path: Path, head: Header) -> tuple[Frame, ...]:
    count = int(_number(head.get("NumberOfFrames")) or 1)
    if count < 1 or min(int(head.Rows), int(head.Columns)) < 1:
        raise ValueError("no frames")
    if count > 1 and not head.get("PerFrameFunctionalGroupsSequence"):
        raise InputError(
            f"'{path.name}' holds {count} frames whose positions its header does not say; export it as a series"
        )
    groups = list(head.get("PerFrameFunctionalGroupsSequence") or [])
    if groups and len(groups) != count:
        raise InputError(f"'{path.name}' says {count} frames but places {len(groups)}; export it again")
    shared = next(iter(head.get("SharedFunctionalGroupsSequence") or []), None)
    return tuple(_frame(path, index, head, groups[index] if groups else None, shared) for index in range(count))


def _frame(path: Path, index: int, head: Header, own: Header | None, shared: Header | None) -> Frame:
    def words(keyword: str, sequence: str) -> Any:
        for group in (own, shared):
            item = next(iter(group.get(sequence) or []), None) if group is not None else None
            if item is not None and item.get(keyword) is not None:
                return item.get(keyword)
        return head.get(keyword)

    kind = words("FrameType", "MRImageFrameTypeSequence") or head.get("ImageType")
    component = str(words("ComplexImageComponent", "MRImageFrameTypeSequence") or "")
    echo = _number(words("EffectiveEchoTime", "MREchoSequence"))
    echo = _number(head.get("EchoTime")) if echo is None else echo
    b_value = _number(words("DiffusionBValue", "MRDiffusionSequence"))
    image_type = tuple(part.strip().upper() for part in _words(kind))
    spacing = _numbers(words("PixelSpacing", "PixelMeasuresSequence"), 2)
    if _mosaic(head):
        image_type += ("MOSAIC",)
    image_type += _part_of_signal(head)
    position = _vector(words("ImagePositionPatient", "PlanePositionSequence"), 3)
    orientation = _vector(words("ImageOrientationPatient", "PlaneOrientationSequence"), 6)
    thickness_mm = _number(words("SliceThickness", "PixelMeasuresSequence"))
    gap_spacing_mm = _number(words("SpacingBetweenSlices", "PixelMeasuresSequence"))
    numbers = (*(() if position is None else position), *(() if orientation is None else orientation), *(spacing or ()))
    if any(abs(number or 0) > _FARTHEST_MM for number in (*numbers, thickness_mm, gap_spacing_mm)):
        raise ValueError("a place outside of any scanner")
    meta = getattr(head, "file_meta", None)
    return Frame(
        path=path,
        index=index,
        shape=(int(head.Rows), int(head.Columns)),
        position=position,
        orientation=orientation,
        spacing_mm=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness_mm=thickness_mm,
        gap_spacing_mm=gap_spacing_mm,
        tabled=bool(head.get("ModalityLUTSequence")),
        slope=_rescale(words("RescaleSlope", "PixelValueTransformationSequence"), 1.0),
        intercept=_rescale(words("RescaleIntercept", "PixelValueTransformationSequence"), 0.0),
        inverted=str(head.get("PhotometricInterpretation") or "").strip() == "MONOCHROME1",
        seen=Appearance(
            modality=str(head.get("Modality") or "").strip(),
            descriptions=tuple(
                str(head.get(key)) for key in ("SeriesDescription", "ProtocolName", "SequenceName") if head.get(key)
            ),
            image_type=(
                *image_type,
                *((component.upper(),) if component.upper() not in ("", "MAGNITUDE", "MIXED") else ()),
            ),
            sequence=tuple(_words(head.get("ScanningSequence"))),
            echo_ms=echo,
            repetition_ms=_number(words("RepetitionTime", "MRTimingAndRelatedParametersSequence")),
            inversion_ms=_number(head.get("InversionTime")),
            b_value=b_value,
            weighting=str(words("AcquisitionContrast", "MRImageFrameTypeSequence") or "") or None,
        ),
        pet=read_pet_header(head) if str(head.get("Modality") or "").strip() == PT else None,
        apart={
            "kind": image_type,
            "component": component,
            "echo": echo,
            "b-value": b_value,
            "stack": str(words("StackID", "FrameContentSequence") or ""),
            "time": str(
                words("TemporalPositionIndex", "FrameContentSequence") or head.get("TemporalPositionIdentifier") or ""
            ),
            "acquisition": str(
                words("FrameAcquisitionNumber", "FrameContentSequence") or head.get("AcquisitionNumber") or ""
            ),
            "trigger": str(head.get("TriggerTime") or ""),
        },
        number=int(_number(head.get("SeriesNumber")) or 0),
        instance=None if own is not None else _whole(head.get("InstanceNumber")),
        enhanced_by_agent=bool(head.get("ContrastBolusAgent")),
        padding=_padding(head),
        private=tuple(words for key, words in _PRIVATE.items() if str(head.get(key) or "").strip().upper() == "YES"),
        origin=Origin(
            patient_id=_plain(head.get("PatientID")),
            patient_name=_plain(head.get("PatientName")),
            born=_plain(head.get("PatientBirthDate")),
            study=str(head.get("StudyInstanceUID") or "").strip(),
            study_date=_day(head.get("StudyDate")),
            acquired=_day(head.get("AcquisitionDate") or head.get("AcquisitionDateTime")),
        ),
        series=str(head.get("SeriesInstanceUID") or ""),
        frame_of_reference=str(head.get("FrameOfReferenceUID") or "") or None,
        uid=str(head.get("SOPInstanceUID") or path),
        transfer_syntax=str(meta.get("TransferSyntaxUID") or "") if meta is not None else "",
    )


def _rescale(value: Any, unsaid: float) -> float:
    if value is None or value == "":
        return unsaid
    number = _number(value)
    if number is None or (number == 0 and unsaid == 1):
        raise ValueError("a rescale that gives no values")
    return number


def _padding(head: Header) -> tuple[int, int] | None:
    one = _number(head.get("PixelPaddingValue"))
    if one is None:
        return None
    limit = _number(head.get("PixelPaddingRangeLimit"))
    ends = sorted((_stored(int(one), head), _stored(int(one if limit is None else limit), head)))
    return ends[0], ends[1]


def _stored(value: int, head: Header) -> int:
    """A value of the header as the pixels hold it: some writers give a negative one without its sign."""
    bits, signed = int(head.BitsAllocated), bool(head.get("PixelRepresentation"))
    value %= 1 << bits
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def _mosaic(head: Header) -> bool:
    count = head.get((0x0019, 0x100A))  # NumberOfImagesInMosaic of Siemens, where ImageType has lost the word
    return (
        "SIEMENS" in str(head.get("Manufacturer") or "").upper()
        and count is not None
        and ((_number(count.value) or 0) > 1)
    )


def _part_of_signal(head: Header) -> tuple[str, ...]:
    """Phase, real or imaginary part, which GE says in a private field alone; () for a magnitude."""
    if str(head.get("Modality") or "").strip() != MR:
        return ()
    try:
        value = head.private_block(0x0043, "GEMS_PARM_01")[0x2F].value
    except KeyError:
        return ()
    number = int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(_number(value) or 0)
    return {1: ("PHASE",), 2: ("REAL",), 3: ("IMAGINARY",)}.get(number, ())


def _plain(value: Any) -> str:
    return re.sub(r"[\s^=,]+", " ", str(value or "")).strip().casefold()


def _day(value: Any) -> date | None:
    digits = re.fullmatch(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2}).*", str(value or "").strip())
    try:
        return None if digits is None else date(*(int(part) for part in digits.groups()))
    except ValueError:
        return None


def _words(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(part) for part in value]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _numbers(value: Any, count: int) -> list[float] | None:
    try:
        numbers = [float(part) for part in value]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == count and bool(np.all(np.isfinite(numbers))) else None


def _vector(value: Any, count: int) -> npt.NDArray[np.float64] | None:
    numbers = _numbers(value, count)
    return None if numbers is None else np.array(numbers)
