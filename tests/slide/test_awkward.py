"""Whatever is passed as a slide either reads or is refused in one sentence that says what to do."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from places import DATA, NO_DATA
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from cmssd_core.slide.digest import digest, slide_files
from cmssd_core.slide.read import describe, read, region, thumbnail
from cmssd_core.types import InputError

FILES = sorted(p for folder in ("wsi", "he_tiles") for p in (DATA / folder).rglob("*") if p.is_file())


@pytest.mark.skipif(not FILES, reason=NO_DATA)
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name[-32:])
def test_every_real_file_reads_or_is_refused_in_a_sentence(path: Path) -> None:
    problem = None
    try:
        slide = read(path, mpp=0.5).value
    except InputError as refused:
        problem = str(refused)
    if problem is not None:
        assert path.name in problem
        assert "; " in problem
        assert "\n" not in problem
        assert describe(path)["problem"]
        return
    small, scale = thumbnail(slide, max_px=64)
    assert max(small.shape[:2]) <= 64
    assert scale >= 1
    assert region(slide, xy=(0, 0), size_px=(8, 8), mpp=1.0).shape == (8, 8, 3)


def dicom(path: Path, *, modality: str, series: str = "1.2.3") -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = pydicom.Dataset()
    made.file_meta = meta
    made.SOPClassUID = meta.MediaStorageSOPClassUID
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    made.Modality = modality
    made.SeriesInstanceUID = series
    made.PatientName = "Secret^Name"
    made.save_as(path, enforce_file_format=True)
    return path


def nifti() -> bytes:
    head = bytearray(400)
    head[:4] = (348).to_bytes(4, "little")
    head[344:348] = b"n+1\0"
    return bytes(head)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.nii", nifti()),
        ("scan.nii.gz", gzip.compress(nifti(), mtime=0)),
        ("renamed.svs", nifti()),
        ("scan.nrrd", b"NRRD0004\ntype: short\n"),
        ("scan.mha", b"ObjectType = Image\nNDims = 3\n"),
    ],
)
def test_an_mri_passed_as_a_slide_is_sent_to_mri(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"looks like an MRI.*pass it as the MRI"):
        read(path, mpp=0.5)


@pytest.mark.parametrize(("modality", "said"), [("MR", "an MRI"), ("CT", "a CT"), ("SEG", "modality SEG")])
def test_dicom_that_is_no_slide_is_named_without_the_patient(tmp_path: Path, modality: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        read(dicom(tmp_path / "im.dcm", modality=modality), mpp=0.5)
    assert "Secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.svs", b"", "is empty"),
        ("notes.txt", b"a text of no interest, but long enough " * 20, "neither a whole-slide format"),
        ("renamed.png", b"a text of no interest, but long enough " * 20, "neither a whole-slide format"),
        ("report.pdf", b"%PDF-1.7 " + b"x" * 600, "is a PDF"),
        ("noise.tif", b"II*\0" + bytes(range(256)) * 4, "cannot be decoded|neither"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as refused:
        read(path, mpp=0.5)
    assert name in str(refused.value)


def test_missing_file_folder_and_zip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read(tmp_path / "absent.svs", mpp=0.5)
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path, mpp=0.5)
    with zipfile.ZipFile(tmp_path / "slide.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(InputError, match="is a zip archive"):
        read(tmp_path / "slide.zip", mpp=0.5)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_truncated_image_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cannot be decoded|is damaged \("):
        read(path, mpp=0.5)


def test_a_decompression_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(InputError, match="too large to decode whole"):
        read(path, mpp=0.5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_kind_of_eight_bit_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new("RGB", (30, 20), (255, 255, 255)).convert(mode).save(path)
    drawn = region(read(path, mpp=1).value, xy=(0, 0), size_px=(30, 20), mpp=1)
    assert drawn.shape == (20, 30, 3)
    assert (drawn == 255).all()


def test_sixteen_bit_grey_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((20, 20), 30_000, np.uint16)).save(path)
    with pytest.raises(InputError, match="8-bit colour was expected"):
        read(path, mpp=1)


def test_one_pixel_is_a_slide(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "pink").save(tmp_path / "one.png")
    slide = read(tmp_path / "one.png", mpp=0.5).value
    assert region(slide, xy=(0, 0), size_px=(1, 1), mpp=0.5)[0, 0].tolist() == [255, 192, 203]


def test_a_slide_in_several_files_has_one_identity_of_all_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "s.mrxs").write_bytes(b"front")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "Data0000.dat").write_bytes(b"pixels")
    before = digest(tmp_path / "s.mrxs")
    assert len(slide_files(tmp_path / "s.mrxs")) == 2
    (tmp_path / "s" / "Data0000.dat").write_bytes(b"other pixels")
    assert digest(tmp_path / "s.mrxs") != before


def test_a_dicom_slide_is_its_series_and_nothing_beside_it(tmp_path: Path) -> None:
    one = dicom(tmp_path / "a.dcm", modality="SM")
    two = dicom(tmp_path / "b.dcm", modality="SM")
    dicom(tmp_path / "c.dcm", modality="SM", series="1.2.4")
    (tmp_path / "notes.txt").write_text("beside", encoding="utf-8")
    assert slide_files(one) == (one, two)
    assert digest(one) == digest(two)
