"""Frames: where each picture of a DICOM file lies and what it shows, from its headers alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from cmssd_core.mri.contrast import Appearance
from cmssd_core.types import InputError

Header = Any  # pydicom's Dataset, which has no types of its own

#: What slides and their pictures are called; a TIFF may also be a scan's screenshot, which is no scan either.
SLIDE_SUFFIXES = (
    ".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp",
)  # fmt: skip

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SLIDE = _STORAGE + "77.1.6"
#: What the DICOM object is, by the beginning of its SOP class; the longest match counts.
_KINDS = {
    "1.2.840.10008.1.3.10": "a DICOMDIR (a table of contents)",
    _STORAGE + "1.": "a radiograph",
    _STORAGE + "3.1": "an ultrasound clip",
    _STORAGE + "6.": "an ultrasound image",
    _STORAGE + "7": "a secondary capture (a screenshot without a position in the patient)",
    _STORAGE + "4.2": "an MR spectrum",
    _STORAGE + "11.": "a presentation state",
    _STORAGE + "20": "a nuclear medicine image",
    _STORAGE + "30": "a parametric map",
    _STORAGE + "66": "raw or registration data",
    _STORAGE + "66.4": "a segmentation (SEG)",
    _STORAGE + "77": "a photograph or microscopy image",
    _STORAGE + "88": "a structured report (SR)",
    _STORAGE + "104": "an encapsulated document",
    _STORAGE + "481.2": "a radiotherapy dose (RTDOSE)",
    _STORAGE + "481.3": "a radiotherapy structure set (RTSTRUCT)",
    _STORAGE + "481.5": "a radiotherapy plan (RTPLAN)",
    _STORAGE + "481": "a radiotherapy object",
    _STORAGE + "9": "a waveform",
}
_MODALITIES = {"RTDOSE": "481.2", "RTSTRUCT": "481.3", "RTPLAN": "481.5", "SEG": "66.4", "SR": "88"}


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a DICOM file.

    position, orientation: LPS mm as DICOM gives them; spacing_mm: (between rows, between columns); None = not said.
    apart: what may tell pictures at one place from each other (echo, b-value, time, ...).
    patient, series, frame_of_reference and uid are compared, never shown.
    """

    path: Path
    index: int
    shape: tuple[int, int]
    position: npt.NDArray[np.float64] | None
    orientation: npt.NDArray[np.float64] | None
    spacing_mm: tuple[float, float] | None
    thickness_mm: float | None
    gap_spacing_mm: float | None
    slope: float
    intercept: float
    inverted: bool
    seen: Appearance
    apart: dict[str, Any]
    number: int
    enhanced_by_agent: bool
    patient: str
    series: str
    frame_of_reference: str | None
    uid: str
    transfer_syntax: str


def header(path: Path) -> Header | None:
    """The DICOM header of a file without its pixels; None where it is no DICOM (a file without preamble counts)."""
    with warnings.catch_warnings():
        # pydicom's warnings quote values, and values may be names.
        warnings.simplefilter("ignore")
        # And it warns again, into the log, whenever a value is looked at later.
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
        try:
            opened = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            if opened.get("SOPClassUID") or opened.get("Modality") or (opened.get("Rows") and opened.get("Columns")):
                return opened
            meta = getattr(opened, "file_meta", None)
            return opened if meta is not None and meta.get("MediaStorageSOPClassUID") else None
        except InputError:
            raise
        except Exception:
            # Whatever a broken file does to the parser, it is no DICOM one can read.
            return None


def refusal(head: Header) -> str | None:
    """What this DICOM object is, in words, where it is not a grey MR, CT or PET image; None where it is one."""
    meta = getattr(head, "file_meta", None)
    sop = str(head.get("SOPClassUID") or (meta.get("MediaStorageSOPClassUID") if meta is not None else "") or "")
    modality = str(head.get("Modality") or "").strip()
    if modality == "SM" or sop.startswith(_SLIDE):
        return "slide"
    match = max((start for start in _KINDS if _begins(sop, start)), key=len, default=None)
    if match:
        return _KINDS[match]
    if modality in _MODALITIES:
        return _KINDS[_STORAGE + _MODALITIES[modality]]
    if modality not in ("MR", "CT", "PT"):
        return f"a DICOM object of modality '{modality}'" if modality.isalnum() else "a DICOM object without a modality"
    if int(head.get("SamplesPerPixel") or 1) != 1 or "PALETTE" in str(head.get("PhotometricInterpretation") or ""):
        return "a colour image"
    if not head.get("Rows") or not head.get("Columns"):
        return "a DICOM object without pixels"
    return None


def refused(what: str, name: str) -> InputError:
    """The sentence for what `refusal` found."""
    if what in ("slide", "a colour image"):
        return InputError(
            f"'{name}' looks like a slide or another colour image, not an MRI; if it is a slide, pass it as --he"
        )
    return InputError(f"'{name}' is {what}, not an image CM-SSD can read; expected MR (or CT, PET) image files")


def frames_of(path: Path, head: Header) -> tuple[Frame, ...]:
    """The frames of one file for which `refusal` is None. Raises InputError where several lie in it unplaced."""
    count = int(_number(head.get("NumberOfFrames")) or 1)
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
    def said(keyword: str, sequence: str) -> Any:
        for group in (own, shared):
            item = next(iter(group.get(sequence) or []), None) if group is not None else None
            if item is not None and item.get(keyword) is not None:
                return item.get(keyword)
        return head.get(keyword)

    kind = said("FrameType", "MRImageFrameTypeSequence") or head.get("ImageType")
    component = str(said("ComplexImageComponent", "MRImageFrameTypeSequence") or "")
    echo = _number(said("EffectiveEchoTime", "MREchoSequence"))
    echo = _number(head.get("EchoTime")) if echo is None else echo
    b_value = _number(said("DiffusionBValue", "MRDiffusionSequence"))
    image_type = tuple(part.strip().upper() for part in _words(kind))
    spacing = _numbers(said("PixelSpacing", "PixelMeasuresSequence"), 2)
    slope = _number(said("RescaleSlope", "PixelValueTransformationSequence"))
    meta = getattr(head, "file_meta", None)
    return Frame(
        path=path,
        index=index,
        shape=(int(head.Rows), int(head.Columns)),
        position=_vector(said("ImagePositionPatient", "PlanePositionSequence"), 3),
        orientation=_vector(said("ImageOrientationPatient", "PlaneOrientationSequence"), 6),
        spacing_mm=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness_mm=_number(said("SliceThickness", "PixelMeasuresSequence")),
        gap_spacing_mm=_number(said("SpacingBetweenSlices", "PixelMeasuresSequence")),
        slope=1.0 if slope is None or slope == 0 else slope,
        intercept=_number(said("RescaleIntercept", "PixelValueTransformationSequence")) or 0.0,
        inverted=str(head.get("PhotometricInterpretation") or "").strip() == "MONOCHROME1",
        seen=Appearance(
            modality=str(head.get("Modality") or "").strip(),
            descriptions=tuple(
                str(head.get(key)) for key in ("SeriesDescription", "ProtocolName", "SequenceName") if head.get(key)
            ),
            image_type=(*image_type, *((component.upper(),) if component.upper() == "PHASE" else ())),
            sequence=tuple(_words(head.get("ScanningSequence"))),
            echo_ms=echo,
            repetition_ms=_number(said("RepetitionTime", "MRTimingAndRelatedParametersSequence")),
            inversion_ms=_number(head.get("InversionTime")),
            b_value=b_value,
            weighting=str(said("AcquisitionContrast", "MRImageFrameTypeSequence") or "") or None,
        ),
        apart={
            "kind": image_type,
            "component": component,
            "echo": echo,
            "b-value": b_value,
            "stack": str(said("StackID", "FrameContentSequence") or ""),
            "time": str(
                said("TemporalPositionIndex", "FrameContentSequence") or head.get("TemporalPositionIdentifier") or ""
            ),
            "acquisition": str(
                said("FrameAcquisitionNumber", "FrameContentSequence") or head.get("AcquisitionNumber") or ""
            ),
            "trigger": str(head.get("TriggerTime") or ""),
        },
        number=int(_number(head.get("SeriesNumber")) or 0),
        enhanced_by_agent=bool(head.get("ContrastBolusAgent")),
        patient=str(head.get("PatientID") or head.get("PatientName") or ""),
        series=str(head.get("SeriesInstanceUID") or ""),
        frame_of_reference=str(head.get("FrameOfReferenceUID") or "") or None,
        uid=str(head.get("SOPInstanceUID") or path),
        transfer_syntax=str(meta.get("TransferSyntaxUID") or "") if meta is not None else "",
    )


def _begins(sop: str, start: str) -> bool:
    return sop == start.rstrip(".") or sop.startswith(start if start.endswith(".") else start + ".")


def _words(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(part) for part in value]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _numbers(value: Any, count: int) -> list[float] | None:
    try:
        numbers = [float(part) for part in value]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and bool(np.all(np.isfinite(numbers))) else None


def _vector(value: Any, count: int) -> npt.NDArray[np.float64] | None:
    numbers = _numbers(value, count)
    return None if numbers is None else np.array(numbers)
