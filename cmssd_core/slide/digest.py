"""A slide's identity: the sha256 of its bytes, however many files they lie in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError


def digest(path: Path) -> str:
    """sha256 (hex) of a slide's bytes, streamed; of a slide in several files, of their sorted sha256s."""
    files = slide_files(path)
    digests = sorted(_sha256(file) for file in files)
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def slide_files(path: Path) -> tuple[Path, ...]:
    """Every file a slide consists of: .mrxs with its folder, .vms/.vmu with the images it names, a DICOM series."""
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        return path, *(file for file in sorted(path.with_suffix("").glob("**/*")) if file.is_file())
    if suffix in (".vms", ".vmu"):
        named = (
            line.partition("=")[2].strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        )
        return path, *sorted({path.parent / name for name in named if name and (path.parent / name).is_file()})
    series = series_of(path)
    if series is None:
        return (path,)
    return tuple(file for file in sorted(path.parent.iterdir()) if file == path or series_of(file) == series)


def series_of(path: Path) -> str | None:
    """The DICOM series a file belongs to, None where it is not DICOM."""
    header = dicom_header(path)
    return None if header is None else str(header.get("SeriesInstanceUID", path.name))


def dicom_header(path: Path) -> pydicom.Dataset | None:
    """Modality, series and size of a DICOM file, None where it is not DICOM; nothing that names a person."""
    try:
        if not path.is_file() or _head(path, 132)[128:] != b"DICM":
            return None
        return pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["Modality", "SeriesInstanceUID", "SOPClassUID"]
        )
    except (InvalidDicomError, OSError, ValueError, KeyError, AttributeError, EOFError):
        return None


def _head(path: Path, count: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(count)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
