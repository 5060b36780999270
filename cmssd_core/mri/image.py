"""Image files: NIfTI, NRRD and MetaImage become a Stack, in the file's own space."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cmssd_core.mri.itk import affine_of
from cmssd_core.mri.nifti import whole
from cmssd_core.mri.stack import Stack, sound
from cmssd_core.types import Finding, InputError

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")

_IO = {
    ".nii": "NiftiImageIO",
    ".nii.gz": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}


def suffix(path: Path) -> str | None:
    """The image suffix of `path` in lower case, or None."""
    name = path.name.lower()
    return next((end for end in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(end)), None)


def read_image(path: Path, *, contrast: str, limit_mb: int) -> Stack:
    """A Stack from one image file. Raises InputError for a damaged file and for all that is not one 3-D grey image."""
    files = _files(path)
    reader = _header(path)
    size = reader.GetSize()
    what = _refusal(reader, path.name)
    if what:
        raise what
    if int(np.prod(size)) * 4 > limit_mb << 20:
        raise InputError(f"'{path.name}' unpacks to more than {limit_mb} MB; crop it or raise CMSSD_UNPACKED_LIMIT_MB")
    if (suffix(path) or "").startswith(".nii"):
        whole(path)
    findings: list[Finding] = []
    keys = set(reader.GetMetaDataKeys())
    if {"qform_code", "sform_code"} <= keys and not any(
        _code(reader.GetMetaData(key)) for key in ("qform_code", "sform_code")
    ):
        findings.append(
            Finding(
                "warning",
                "the NIfTI header says no orientation (qform and sform are 0): left and right cannot be trusted",
                f"mri {contrast}",
            )
        )
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
        while image.GetDimension() > 3:
            image = image[..., 0]
    except RuntimeError as error:
        raise InputError(f"'{path.name}' is damaged or cut short and cannot be read; export it again") from error
    voxels = sitk.GetArrayFromImage(image)
    affine = affine_of(image)
    sound(voxels, affine, name=path.name)
    return Stack(contrast=contrast, voxels=voxels, affine=affine, digest=_digest(files), findings=tuple(findings))


def facts(path: Path) -> dict[str, object]:
    """What the header says, for an inspection: kind, size (x, y, z), spacing in mm, pixel type."""
    reader = _header(path)
    return {
        "kind": {"NiftiImageIO": "NIfTI", "NrrdImageIO": "NRRD", "MetaImageIO": "MetaImage"}[_IO[suffix(path) or ""]],
        "size": list(reader.GetSize()),
        "spacing_mm": [round(float(s), 4) for s in reader.GetSpacing()],
        "pixel_type": sitk.GetPixelIDValueAsString(reader.GetPixelID()),
        "components": reader.GetNumberOfComponents(),
    }


def _header(path: Path) -> sitk.ImageFileReader:
    # ITK writes its complaints to stderr, with the full path of the file in them.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    # Named, because ITK would otherwise try every format it knows on a file that is not what its suffix says.
    reader.SetImageIO(_IO[suffix(path) or ""])
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(
            f"'{path.name}' is not the {(suffix(path) or '')} image its name says, or is damaged; export it again"
        ) from error
    return reader


def _refusal(reader: sitk.ImageFileReader, name: str) -> InputError | None:
    size = reader.GetSize()
    shape = " x ".join(str(n) for n in size)
    if reader.GetNumberOfComponents() > 1:
        return InputError(
            f"'{name}' holds {reader.GetNumberOfComponents()} values a voxel (colour or vectors); expected one grey"
        )
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        return InputError(f"'{name}' holds complex numbers; expected magnitudes")
    if len(size) < 3:
        return InputError(f"'{name}' is a 2-D picture ({shape}); expected a 3-D image with slice positions")
    if int(np.prod(size[3:])) > 1:
        return InputError(
            f"'{name}' holds {int(np.prod(size[3:]))} volumes ({shape}); expected one 3-D image, "
            "choose a volume and save it alone"
        )
    if min(size) < 1:
        return InputError(f"'{name}' holds no voxels ({shape}); expected a 3-D image")
    return None


def _files(path: Path) -> list[Path]:
    """The file and, for a header with its data elsewhere, the data; both must lie in one folder."""
    head = path.open("rb").read(64 << 10)
    if suffix(path) == ".mhd" or (suffix(path) == ".mha" and b"ElementDataFile" in head):
        lines = head.split(b"\n")
        entry = next((line for line in lines if line.strip().startswith(b"ElementDataFile")), b"")
        data = entry.partition(b"=")[2].strip().decode("utf-8", "replace")
        if data.upper() == "LOCAL":
            return [path]
        return [path, _beside(path, data)]
    if suffix(path) == ".nrrd":
        text = head.split(b"\n\n")[0].split(b"\r\n\r\n")[0].lower()
        if b"\ndata file:" in text or b"\ndatafile:" in text:
            raise InputError(f"'{path.name}' keeps its data in another file; save it as one attached .nrrd")
    return [path]


def _beside(path: Path, data: str) -> Path:
    # A header may name any file of the machine; only one beside it is the image's.
    if not data or "/" in data or "\\" in data or data in ("..", ".", "LIST") or "%" in data:
        raise InputError(f"'{path.name}' does not name one data file beside it; save the image as one .mha")
    other = path.with_name(data)
    if other.is_symlink() or not other.is_file():
        raise InputError(f"'{path.name}' needs its data file beside it, which is missing; give both, or one .mha")
    return other


def _digest(files: list[Path]) -> str:
    parts = []
    for file in files:
        with file.open("rb") as handle:
            parts.append(hashlib.file_digest(handle, "sha256").digest())
    return hashlib.sha256(b"".join(parts)).hexdigest() if len(parts) > 1 else parts[0].hex()


def _code(value: str) -> int:
    digits = "".join(c for c in value if c.isdigit())
    # ITK spells the code in words in some versions; any word but "unknown" is a code.
    return int(digits) if digits else int("unknown" not in value.lower())
