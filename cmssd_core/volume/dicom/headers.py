"""Headers: what a DICOM file is, told without its pixels, and why one is no scan."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from cmssd_core.types import InputError
from cmssd_core.volume.contrasts import CONTRASTS

Header = Any  # pydicom's Dataset, which has no types of its own

#: What slides and their pictures are called; a TIFF may also be a scan's screenshot, which is no scan either.
SLIDE_SUFFIXES = (
    ".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp",
)  # fmt: skip

#: Raw images of flat background reach about 1:100; beyond this, and above the floor, a file is built to exhaust.
RATIO_LIMIT, RATIO_FLOOR = 200, 64 << 20
_CHUNK = 1 << 20
#: The tags of pixels; a header is read up to them.
_PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
#: At the top level of a file; those with a thousand frames have a few hundred.
_ELEMENTS = 50_000
DAMAGED = "a file with a damaged header"
#: How DICOM files are called, what a copy that was broken off or packed is called further, and what lies beside them.
_SUFFIXES = {".dcm", ".dicom", ".dic", ".ima"}
_UNFINISHED = {".part", ".partial", ".crdownload", ".download", ".tmp", ".gz", ".bz2", ".xz"}
_BESIDE = {"dicomdir", "readme", "license", "licence"}

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
#: Classes of the images that are read; a file of one without its rows or its modality was cut short.
_IMAGES = {_STORAGE + end for end in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130")}
_MODALITIES = {"RTDOSE": "481.2", "RTSTRUCT": "481.3", "RTPLAN": "481.5", "SEG": "66.4", "SR": "88"}


def header(path: Path) -> Header | None:
    """The DICOM header of a file without its pixels; None where it is no DICOM (a file without preamble counts)."""
    import pydicom  # half a second that an image file need not wait for

    with warnings.catch_warnings():
        # pydicom's warnings quote values, and values may be names.
        warnings.simplefilter("ignore")
        # And it warns again, into the log, whenever a value is looked at later.
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
        try:
            refuse_bomb(path)
            opened = read_until_pixels(path, through=False)
            if opened.get("SOPClassUID") or opened.get("Modality") or (opened.get("Rows") and opened.get("Columns")):
                return opened
            meta = getattr(opened, "file_meta", None)
            return opened if meta is not None and meta.get("MediaStorageSOPClassUID") else None
        except InputError:
            raise
        except Exception:
            # Whatever a broken file does to the parser, it is no DICOM one can read.
            return None


def read_until_pixels(path: Path, *, through: bool) -> Header:
    """What a file holds before its pixels, or through them: behind them may be anything.

    Raises InputError for more elements than any file has.
    """
    from pydicom.filereader import read_partial

    count, seen = 0, False

    def stops(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal count, seen
        count += 1
        if count > _ELEMENTS:
            raise InputError(f"'{path.name}' holds more than {_ELEMENTS} elements: it is damaged; export it again")
        ends = seen if through else tag in _PIXELS
        seen = seen or tag == _PIXELS[0]
        return ends

    with path.open("rb") as stream:
        return read_partial(stream, stops, force=True)


def looks_dicom(path: Path, *, like: Collection[Path] = ()) -> bool:
    """Whether a file was to be a DICOM image, by its mark, its suffix, or a name as the DICOM files `like` have."""
    if path.stem.lower() in _BESIDE:
        return False
    end = _suffix(path)
    if end in _SUFFIXES or _marked(path):
        return True
    if end:
        return end in {_suffix(other) for other in like}
    # Without a suffix the files of a series are told apart by numbers, and notes beside them have none.
    return any(char.isdigit() for char in path.name) and any(not _suffix(other) for other in like)


def _marked(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


def names(paths: Sequence[Path]) -> str:
    """The first three files by name."""
    return ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")


def _suffix(path: Path) -> str:
    """The suffix in small letters; "" where what follows the last dot is the end of an identifier, or nothing."""
    ends = [end.lower() for end in path.suffixes]
    while len(ends) > 1 and ends[-1] in _UNFINISHED:
        ends.pop()
    return ends[-1] if ends and not ends[-1][1:].isdigit() else ""


def refuse_bomb(path: Path) -> None:
    """Raises InputError for a deflated file that unpacks to what no image does, for pydicom inflates it whole."""
    from pydicom.filereader import _read_file_meta_info, read_preamble  # what dcmread itself reads the name of it with
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with path.open("rb") as handle:
        read_preamble(handle, force=True)
        if _read_file_meta_info(handle).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflater, packed, plain = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
        while chunk := handle.read(_CHUNK):
            packed += len(chunk)
            while chunk and not inflater.eof:
                plain += len(inflater.decompress(chunk, _CHUNK))
                chunk = inflater.unconsumed_tail
                if plain > max(RATIO_FLOOR, RATIO_LIMIT * packed):
                    raise InputError(
                        f"'{path.name}' unpacks to more than {RATIO_LIMIT} times its size, like a file made to fill "
                        "the memory; export it again"
                    )


def refusal(head: Header) -> str | None:
    """What this DICOM object is, in words, where it is not a grey MR, CT or PET image; None where it is one."""
    try:
        return _refusal(head)
    except Exception:
        # Values are converted when they are asked for, and each kind of damage brings an exception of its own.
        return DAMAGED


def _refusal(head: Header) -> str | None:
    meta = getattr(head, "file_meta", None)
    sop = str(head.get("SOPClassUID") or (meta.get("MediaStorageSOPClassUID") if meta is not None else "") or "")
    modality = str(head.get("Modality") or "").strip()
    if modality == "SM" or sop.startswith(_SLIDE):
        return "slide"
    match = max((start for start in _KINDS if _begins(sop, start)), key=len, default=None)
    if match:
        return _KINDS[match]
    if sop in _IMAGES and not (modality and head.get("Rows") and head.get("Columns")):
        return DAMAGED
    if modality in _MODALITIES:
        return _KINDS[_STORAGE + _MODALITIES[modality]]
    if modality not in {row.dicom for row in CONTRASTS.values()}:
        return f"a DICOM object of modality '{modality}'" if modality.isalnum() else "a DICOM object without a modality"
    if int(head.get("SamplesPerPixel") or 1) != 1 or "PALETTE" in str(head.get("PhotometricInterpretation") or ""):
        return "a colour image"
    if not head.get("Rows") or not head.get("Columns"):
        return "a DICOM object without pixels"
    return None


def describe_refusal(what: str, name: str) -> InputError:
    """The sentence for what `refusal` found."""
    if what == DAMAGED:
        return InputError(f"the header of '{name}' is damaged; export it again")
    if what in ("slide", "a colour image"):
        return InputError(
            f"'{name}' looks like a slide or another colour image, not an MRI; if it is a slide, pass it as that", "he"
        )
    return InputError(f"'{name}' is {what}, not an image CM-SSD can read; expected MR (or CT, PET) image files")


def _begins(sop: str, start: str) -> bool:
    return sop == start.rstrip(".") or sop.startswith(start if start.endswith(".") else start + ".")
