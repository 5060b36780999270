"""Awkward DICOM, after public reports of bugs: series and files no reader expects, each built in a line or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

SPACING = (1.5, 1.5, 4.0)
ORIGIN = np.array([-30.0, -26.0, -22.0])  # LPS
MARK = (30, 24, 8)  # voxel (x, y, z) of a bright block


def at(x: float, y: float, z: float) -> np.ndarray:
    """A place so many mm from the first slice's."""
    return ORIGIN + np.array([x, y, z])


def phantom(seed: int = 0, mark: tuple[int, int, int] = MARK) -> np.ndarray:
    """float (x, y, z): a body in noisy air with one bright block, alike from no side."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 36, 12)], indexing="ij")
    body = ((x / 0.85) ** 2 + (y / 0.8) ** 2 < 1) * (400 + 80 * np.sin(5 * x + 2 * z))
    voxels = body + rng.uniform(0, 12, body.shape) + 10 * rng.standard_normal(body.shape) * (body > 0)
    i, j, k = mark
    voxels[i - 2 : i + 3, j - 2 : j + 3, k - 1 : k + 2] = 1500
    return np.clip(voxels, 0, None)


def picture(image: np.ndarray, position: Any, **fields: Any) -> FileDataset:
    """One MR picture (y, x); a field that is None is left out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
    head = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    signed = image.dtype == np.int16
    said: dict[str, Any] = {
        "SOPClassUID": MRImageStorage, "SOPInstanceUID": generate_uid(), "Modality": "MR", "PatientID": "anon1",
        "StudyInstanceUID": "1.2.77", "SeriesInstanceUID": "1.2.79", "FrameOfReferenceUID": "1.2.78", "SeriesNumber": 3,
        "SeriesDescription": "T1 axial", "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], "ScanningSequence": "SE",
        "EchoTime": 12.0, "RepetitionTime": 600.0, "AcquisitionNumber": 1, "SliceThickness": 4.0,
        "PixelSpacing": [1.5, 1.5], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [f"{float(t):.6g}" for t in position], "Rows": image.shape[0],
        "Columns": image.shape[1], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": int(signed),
    }  # fmt: skip
    for key, value in (said | fields).items():
        if value is not None:
            setattr(head, key, value)
    head.PixelData = np.rint(image).astype("<i2" if signed else "<u2").tobytes()
    meta.MediaStorageSOPInstanceUID = head.SOPInstanceUID
    return head


def save(head: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, voxels: np.ndarray, *, own: Any = None, prefix: str = "IM", **fields: Any) -> Path:
    """voxels (x, y, z) as one file a slice, 4 mm apart; own(k) gives what slice k says otherwise."""
    for k in range(voxels.shape[2]):
        said = {"position": at(0, 0, 4.0 * k), **fields, **(own(k) if own else {})}
        save(picture(voxels[:, :, k].T, said.pop("position"), **said), folder / f"{prefix}{k:04d}.dcm")
    return folder


def stacks(path: Path, voxels: np.ndarray) -> Path:
    """One enhanced file of two stacks: `voxels`, and a darker copy half a slice on."""
    frames = [(1.0, 0.0, 1, k) for k in range(voxels.shape[2])] + [(0.3, 2.0, 2, k) for k in range(voxels.shape[2])]
    head = picture(voxels[:, :, 0].T, ORIGIN, SOPClassUID=EnhancedMRImageStorage)
    for key in ("EchoTime", "RepetitionTime", "SliceThickness", "PixelSpacing", "ImageOrientationPatient"):
        delattr(head, key)
    head.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    head.NumberOfFrames = len(frames)
    head.PixelData = np.stack([np.rint(scale * voxels[:, :, k].T) for scale, _, _, k in frames]).astype("<u2").tobytes()
    head.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=list(at(0, 0, 4.0 * k + shift)))],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[1.5, 1.5], SliceThickness=4.0)],
            FrameContentSequence=[item(StackID=str(stack))],
        )
        for _, shift, stack, k in frames
    ]
    return save(head, path)


def mosaic(folder: Path, voxels: np.ndarray, **fields: Any) -> Path:
    """Twelve slices in one picture, as a scanner of functional images writes them."""
    tiles = [voxels[:, :, k].T for k in range(12)]
    image = np.block([tiles[3 * row : 3 * row + 3] for row in range(4)])
    said = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]} | fields
    save(picture(image, ORIGIN, **said), folder / "m.dcm")
    return folder


def item(**fields: Any) -> Dataset:
    head = Dataset()
    for key, value in fields.items():
        setattr(head, key, value)
    return head
