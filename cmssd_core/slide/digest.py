"""A slide's identity: the sha256 of its bytes, however many files they lie in."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cmssd_core.types import InputError

_LOG = logging.getLogger("cmssd.slide")
_HAMAMATSU = (b"[Virtual Microscope Specimen]", b"[Uncompressed Virtual Microscope Specimen]")
_NAMING = ("imagefile", "mapfile", "optimisationfile", "macroimage")
_TAGS = ("Modality", "SeriesInstanceUID", "ImageType", "BurnedInAnnotation", "Rows", "Columns")


@dataclass(frozen=True)
class DicomHead:
    """What is asked of a DICOM file: modality, series, kind, size of a tile in px; nothing that names a person.

    burned_in: whether the file says that its pixels show words, and is the slide's own picture, no label's.
    """

    modality: str
    series: str
    burned_in: bool
    tile: tuple[int, int]


def digest(path: Path) -> str:
    """sha256 (hex) of a slide's bytes, streamed; of a slide in several files, of their sorted sha256s."""
    files = slide_files(path)
    digests = sorted(_sha256(file) for file in files)
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def slide_files(path: Path) -> tuple[Path, ...]:
    """Every file a slide consists of: .mrxs with its folder, .vms/.vmu with the images it names, a DICOM series.

    Raises InputError where a .vms/.vmu names a file outside its own folder.
    """
    if path.suffix.lower() == ".mrxs":
        parts = sorted(path.with_suffix("").glob("**/*"))
        return path, *(part for part in parts if part.is_file() and not part.name.startswith("._"))  # those are macOS'
    if any(mark in _head(path, 4096) for mark in _HAMAMATSU):
        return path, *_named(path)
    series = series_of(path)
    if series is None:
        return (path,)
    return tuple(file for file in sorted(path.parent.iterdir()) if file == path or series_of(file) == series)


def _named(path: Path) -> list[Path]:
    """The files that a Hamamatsu index names, all of its own folder."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = [(key.strip().lower(), name.strip()) for key, _, name in (line.partition("=") for line in lines)]
    if any(key.startswith(_NAMING) and ("/" in name or "\\" in name) for key, name in pairs):
        raise InputError(f"{path.name} names files outside its own folder; put the slide's files into one folder")
    plain = {name for _, name in pairs if name and "/" not in name and "\0" not in name and len(name) < 256}
    return sorted(path.parent / name for name in plain if (path.parent / name).is_file())


def series_of(path: Path) -> str | None:
    """The DICOM series a file belongs to, None where it is not DICOM."""
    header = dicom_header(path)
    return None if header is None else header.series


def dicom_header(path: Path) -> DicomHead | None:
    """What a DICOM file says of itself, None where it is not DICOM or cannot be read as such.

    Each value is converted here: pydicom does so only when it is asked for, and raises whatever it likes.
    """
    try:
        if not path.is_file() or _head(path, 132)[128:] != b"DICM":
            return None
        # pydicom inflates such a file whole, whatever comes of it; no slide is one.
        if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return None
        told = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        words = told.get("ImageType") or ()
        kinds = {str(word).upper() for word in ([words] if isinstance(words, str) else words)}
        return DicomHead(
            modality=str(told.get("Modality")),
            series=str(told.get("SeriesInstanceUID", path.name)),
            burned_in=str(told.get("BurnedInAnnotation")).strip().upper() == "YES"
            and not kinds & {"LABEL", "OVERVIEW"},
            tile=(int(told.get("Columns") or 0), int(told.get("Rows") or 0)),
        )
    except Exception as reason:
        _LOG.info("a DICOM header was not read: %s", type(reason).__name__)
        return None


def _head(path: Path, count: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(count)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
