"""Pixels: the stored values of a DICOM file, decoded by pydicom where it needs no codec and by GDCM elsewhere.

GDCM applies the rescale slope for some kinds of image and not for others (not for MR), so it is handed a bare copy
without one, and the caller applies each frame's own.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, RLELossless, generate_uid

from cmssd_core.types import InputError
from cmssd_core.volume.dicom.codestream import check
from cmssd_core.volume.dicom.headers import read_until_pixels

_PIXEL_MODULE = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "PixelData",
)  # fmt: skip


def read_stored(path: Path, *, limit_mb: int) -> npt.NDArray[Any]:
    """Stored values (frame, y, x) of one DICOM file. Raises InputError where they are missing, cut short, larger than
    `limit_mb` MB or than the header says, or packed in a way neither decoder knows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = read_until_pixels(path, through=True)
            syntax = _syntax(opened)
            if "PixelData" not in opened:
                raise InputError(f"'{path.name}' has a header but no pixels; export it again")
            if syntax.is_encapsulated:
                check(opened, name=path.name, limit_mb=limit_mb)
            expected = (int(opened.get("NumberOfFrames") or 1), int(opened.Rows), int(opened.Columns))
            if not syntax.is_encapsulated:
                _not_too_many(opened, expected, name=path.name)
            own = not syntax.is_encapsulated or syntax == RLELossless
            decoded = _with_pydicom(opened) if own else _with_gdcm(opened)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"the pixels of '{path.name}' are damaged or cut short; export it again") from error
    if decoded.size != np.prod(expected):
        raise InputError(f"the pixels of '{path.name}' do not fill the size its header says; export it again")
    return decoded.reshape(expected)


def _not_too_many(opened: Any, shape: tuple[int, int, int], *, name: str) -> None:
    """Raises InputError where plain pixels hold a row more than their header says and not padding of zeros alone."""
    row = shape[2] * int(opened.get("SamplesPerPixel") or 1) * max(1, int(opened.BitsAllocated) // 8)
    claimed = shape[0] * shape[1] * row
    if len(opened.PixelData) >= claimed + row and any(opened.PixelData[claimed:]):
        raise InputError(
            f"the pixels of '{name}' are {len(opened.PixelData)} bytes, but its header says {shape[0]} x {shape[1]} x "
            f"{shape[2]}, which are {claimed}; export it again"
        )


def _syntax(opened: Any) -> Any:
    meta = getattr(opened, "file_meta", None)
    if meta is None:
        opened.file_meta = meta = FileMetaDataset()
    if not meta.get("TransferSyntaxUID"):
        implicit, _ = opened.original_encoding
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return meta.TransferSyntaxUID


def _with_pydicom(opened: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = opened.pixel_array
    return array


def _with_gdcm(opened: Any) -> npt.NDArray[Any]:
    bare = pydicom.Dataset()
    for keyword in _PIXEL_MODULE:
        if keyword in opened:
            bare[keyword] = opened[keyword]
    bare.SOPClassUID = MRImageStorage
    bare.SOPInstanceUID = generate_uid()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = opened.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bare.dcm"
        bare.save_as(file, enforce_file_format=True)
        try:
            array: npt.NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))
        except RuntimeError:
            # High-throughput JPEG 2000 and some odd streams: pydicom's codecs, where the user installed them.
            array = _with_pydicom(opened)
    return array
