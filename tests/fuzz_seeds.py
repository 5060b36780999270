"""Sound little files of every format a reader takes, written by other hands than ours: what the fuzzer damages."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    VLWholeSlideMicroscopyImageStorage,
)

AFFINE = np.array([[0.8, 0, 0, -5], [0, 0.7, 0, -7], [0, 0, 3.0, 2], [0, 0, 0, 1.0]])
SHAPE = (7, 16, 12)  # z, y, x
SLIDE_PX = (96, 80)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A sound input: the file that is damaged, by what it is read, and the part of it that a checksum guards.

    reader: a row of READERS in tests/fuzz_child.py. path: what is damaged. read: what is read, the file or its folder.
    packed: header and voxels lie together in a gzip stream, so that damage inside is tried too. sealed: the byte from
    which on a checksum guards what is read, None = there is none. head: bytes from the start that are its header.
    """

    name: str
    reader: str
    path: Path
    read: Path
    packed: bool = False
    sealed: int | None = None
    head: int = 4096


def write_seeds(folder: Path, *, weights: Path) -> tuple[Seed, ...]:
    """One seed of each format below `folder`."""
    seeds = [*_images(folder), *_masks(folder), *_dicom(folder), *_slides(folder), *_tables(folder)]
    seeds.append(_copied(folder, weights))
    return tuple(seeds)


def _voxels() -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    waves = 400 + 200 * np.sin(x / 2) + 100 * np.cos(y / 3) + 30 * z
    return (waves + np.random.default_rng(0).integers(0, 40, SHAPE)).astype(np.int16)


def _blob() -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return (((x - 6) ** 2 + (y - 8) ** 2 + 4 * (z - 3) ** 2) < 20).astype(np.uint8)


def _itk(array: np.ndarray, path: Path, *, packed: bool) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 0.7, 3.0))
    image.SetOrigin((5, 7, 2))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # LPS+, as AFFINE in RAS+
    sitk.WriteImage(image, str(path), packed)
    return path


def _place(folder: Path, name: str) -> Path:
    place = folder / name.replace(".", "_").replace(" ", "_")
    place.mkdir(parents=True)
    return place


def _stack(folder: Path, array: np.ndarray, reader: str) -> list[Seed]:
    """An array in every format of a stack of slices."""
    seeds = []
    for ending, kind in (("nii", nibabel.Nifti1Image), ("nii.gz", nibabel.Nifti1Image), ("nii", nibabel.Nifti2Image)):
        name = f"{reader} {ending}" + (" version 2" if kind is nibabel.Nifti2Image else "")
        path = _place(folder, name) / f"t1.{ending}"
        nibabel.save(kind(array.T, AFFINE), path)
        packed = ending == "nii.gz"
        seeds.append(
            Seed(name=name, reader=reader, path=path, read=path, packed=packed, sealed=0 if packed else None, head=544)
        )
    for name, ending, packed in (
        ("raw", "nrrd", False),
        ("gzip", "nrrd", True),
        ("raw", "mha", False),
        ("zlib", "mha", True),
    ):
        place = _place(folder, f"{reader} {ending} {name}")
        path = _itk(array, place / f"t1.{ending}", packed=packed)
        content = path.read_bytes()
        end = content.index(b"\n\n") + 2 if ending == "nrrd" else content.index(b"LOCAL\n") + 6
        sealed = end if packed else None
        seeds.append(Seed(name=place.name, reader=reader, path=path, read=path, sealed=sealed, head=end))
    place = _place(folder, f"{reader} mhd")
    path = _itk(array, place / "t1.mhd", packed=False)
    seeds.append(Seed(name=place.name, reader=reader, path=path, read=path))
    return seeds


def _images(folder: Path) -> list[Seed]:
    seeds = _stack(folder, _voxels(), "volume")
    place = _place(folder, "volume zip")
    path = place / "scan.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(seeds[0].path, "study/t1.nii")
    return [*seeds, Seed(name="volume zip", reader="volume", path=path, read=path, sealed=0, head=80)]


def _masks(folder: Path) -> list[Seed]:
    return _stack(folder, _blob(), "mask")


def _slice(image: np.ndarray, number: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, f"1.2.3.4.{number + 1}"
    ds.Modality, ds.PatientID, ds.StudyDate = "MR", "A-1", "20260103"
    ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2", "1.2.9"
    ds.SeriesDescription, ds.SeriesNumber, ds.InstanceNumber = "t1_tse_cor", 3, number
    ds.EchoTime, ds.RepetitionTime, ds.MagneticFieldStrength = 12.0, 500.0, 1.5
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-5.0, -7.0, 3.0 * number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.7, 0.8], 3.0
    ds.Rows, ds.Columns = image.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1.0, 0.0
    ds.PixelData = image.astype("<u2").tobytes()
    return ds


def _save(ds: Dataset, path: Path, syntax: str) -> Path:
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    if syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        ds.compress(syntax, generate_instance_uid=False)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    return path


def _fine() -> np.ndarray:
    """Large enough for the five resolutions of JPEG 2000."""
    return _voxels().repeat(4, 1).repeat(4, 2)


def _enhanced() -> Dataset:
    image = _fine()
    ds = _slice(image[0], 0)
    ds.SOPClassUID, ds.NumberOfFrames = EnhancedMRImageStorage, len(image)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, name)
    shared, frames = Dataset(), []
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.8], 3.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    for number in range(len(image)):
        frame, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-5.0, -7.0, 3.0 * number]
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", number + 1, [1, number + 1]
        frame.PlanePositionSequence, frame.FrameContentSequence = Sequence([position]), Sequence([content])
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    ds.PixelData = image.astype("<u2").tobytes()
    return ds


def _dicom(folder: Path) -> list[Seed]:
    kinds = {
        "plain": ExplicitVRLittleEndian, "deflated": DeflatedExplicitVRLittleEndian, "jpeg 2000": JPEG2000Lossless,
        "jpeg-ls": JPEGLSLossless, "rle": RLELossless,
    }  # fmt: skip
    seeds = []
    for name, syntax in kinds.items():
        place = _place(folder, f"dicom {name}")
        paths = [
            _save(_slice(image, number), place / f"{number}.dcm", syntax) for number, image in enumerate(_fine()[:4])
        ]
        seeds.append(Seed(name=place.name, reader="volume", path=paths[1], read=place))
    for name, syntax in (("enhanced", ExplicitVRLittleEndian), ("enhanced jpeg 2000", JPEG2000Lossless)):
        place = _place(folder, f"dicom {name}")
        path = _save(_enhanced(), place / "0.dcm", syntax)
        seeds.append(Seed(name=place.name, reader="volume", path=path, read=path))
    return seeds


def _picture() -> np.ndarray:
    y, x = np.indices(SLIDE_PX[::-1])
    tissue = np.stack([200 - 60 * np.sin(x / 9) ** 2, 120 + 50 * np.cos(y / 7) ** 2, 180 - x / 3], axis=-1)
    return (tissue + np.random.default_rng(1).integers(0, 12, tissue.shape)).clip(0, 255).astype(np.uint8)


def _slides(folder: Path) -> list[Seed]:
    picture, seeds = _picture(), []

    def add(ending: str, write: Callable[[Path], object], *, kind: str = "", sealed: int | None = None) -> None:
        name = f"slide {kind or ending}"
        path = _place(folder, name) / f"he.{ending}"
        write(path)
        seeds.append(Seed(name=name, reader="slide", path=path, read=path, sealed=sealed, head=512))

    def pyramid(path: Path, *, description: str | None = None, compression: str = "jpeg", ome: bool = False) -> None:
        options = {"tile": (32, 32), "photometric": "rgb", "resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
        with tifffile.TiffWriter(path, ome=ome) as writer:
            extra = (
                {"metadata": {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}} if ome else {"metadata": None}
            )
            writer.write(picture, compression=compression, description=description, **options, **extra)
            if not ome:
                writer.write(picture[::4, ::4].copy(), compression=compression, subfiletype=1, description=description,
                             **{**options, "resolution": (5000, 5000)}, metadata=None)  # fmt: skip

    aperio = "Aperio Image Library v12.0.0\r\n96x80 [0,0 96x80] (32x32) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    add("png", lambda path: Image.fromarray(picture).save(path), sealed=0)
    add("jpg", lambda path: Image.fromarray(picture).save(path, quality=90))
    add("tif", lambda path: tifffile.imwrite(path, picture, compression="deflate"), kind="plain tiff")
    add("tif", lambda path: tifffile.imwrite(path, picture, compression="lzw"), kind="lzw tiff")
    add("tif", pyramid, kind="tiled tiff")
    add("svs", lambda path: pyramid(path, description=aperio), kind="svs")
    add("ome.tif", lambda path: pyramid(path, ome=True, compression="deflate"), kind="ome-tiff")
    add("dcm", write_dicom_slide, kind="dicom")
    return seeds


def write_dicom_slide(path: Path) -> None:
    """Tiles of 32 px, JPEG baseline, tiled full, as slide scanners write them."""
    picture, tiles = _picture(), []
    for top in range(0, 80, 32):
        for left in range(0, 96, 32):
            tile = np.full((32, 32, 3), 255, np.uint8)
            part = picture[top : top + 32, left : left + 32]
            tile[: part.shape[0], : part.shape[1]] = part
            packed = BytesIO()
            Image.fromarray(tile).save(packed, "JPEG", quality=90, subsampling=0)
            tiles.append(packed.getvalue())
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = VLWholeSlideMicroscopyImageStorage, "1.2.3.9", "SM"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.4", "1.2.4.1", "1.2.4.2"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_FULL_422", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.Rows, ds.Columns, ds.NumberOfFrames = 32, 32, len(tiles)
    ds.TotalPixelMatrixColumns, ds.TotalPixelMatrixRows = SLIDE_PX
    ds.ImagedVolumeWidth, ds.ImagedVolumeHeight, ds.ImagedVolumeDepth = 0.048, 0.04, 0.001
    ds.DimensionOrganizationType, ds.TotalPixelMatrixFocalPlanes, ds.NumberOfOpticalPaths = "TILED_FULL", 1, 1
    optical, shared, measures, profile = Dataset(), Dataset(), Dataset(), Dataset()
    optical.OpticalPathIdentifier = "1"
    profile.ICCProfile = b""
    measures.PixelSpacing, measures.SliceThickness = [0.0005, 0.0005], 0.001
    shared.PixelMeasuresSequence = Sequence([measures])
    ds.OpticalPathSequence, ds.SharedFunctionalGroupsSequence = Sequence([optical]), Sequence([shared])
    ds.LossyImageCompression = "01"
    ds.PixelData = pydicom.encaps.encapsulate(tiles)
    ds["PixelData"].is_undefined_length = True
    _save(ds, path, JPEGBaseline8Bit)


def _tables(folder: Path) -> list[Seed]:
    shape = {"type": "Polygon", "coordinates": [[[1, 1], [60, 1], [60.5, 70], [1, 1]]]}
    holes = {
        "type": "MultiPolygon",
        "coordinates": [[[[1, 1], [9, 1], [9, 9], [1, 1]], [[2, 2], [3, 2], [3, 3], [2, 2]]]],
    }
    named = {"objectType": "annotation", "classification": {"name": "Tumour", "color": [200, 0, 0]}}
    features = [{"type": "Feature", "geometry": g, "properties": named} for g in (shape, holes)]
    files = "case_id,patient_id,mri_t1,slide,slide_mpp,site_x_mm,site_y_mm,site_z_mm,"
    truth = "malignant,severity_pct,event,time_months,split,fold\n"
    rows = "a-1,A,t1.nii,he.png,0.5,1.5,2,-3e1,1,12.5,0,7.25,train,1\na-2,B,t2.nii,,,,,,0,0.0,,,test,2\n"
    genes = "gene,P1,P2\n" + "".join(f"GENE{n},{n * 1.5},{n * 7}\n" for n in range(40))
    texts = {
        "geojson": ("geojson", "he.geojson", json.dumps({"type": "FeatureCollection", "features": features})),
        "cohort csv": ("cohort", "cohort.csv", files + truth + rows),
        "tiles csv": ("tiles", "tiles.csv", "image,class,patient,mpp\nv1.png,Viable,P1,0.5\nn1.png,Non-Tumor,P2,1e0\n"),
        "rna csv": ("rna", "rna.csv", genes),
        "rna tsv": ("rna", "rna.tsv", genes.replace(",", "\t")),
    }
    seeds = []
    for name, (reader, file, text) in texts.items():
        place = _place(folder, name)
        (place / file).write_text(text, encoding="utf-8")
        for beside in ("t1.nii", "t2.nii", "he.png", "v1.png", "n1.png"):
            if reader in ("cohort", "tiles"):
                (place / beside).write_bytes(beside.encode())
        seeds.append(Seed(name=name, reader=reader, path=place / file, read=place / file, head=len(text)))
    return seeds


def _copied(folder: Path, weights: Path) -> Seed:
    path = _place(folder, "weights") / "w.safetensors"
    path.write_bytes(weights.read_bytes())
    return Seed(name="weights", reader="weights", path=path, read=path)
