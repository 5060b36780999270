"""A slide's files are its own, and whatever a DICOM header holds is asked for within the guard."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import pydicom
import pytest
from places import DATA, NO_DATA
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from cmssd_core.slide.digest import dicom_header, series_of, slide_files
from cmssd_core.slide.read import describe, read
from cmssd_core.types import InputError

SLIDE = DATA / "wsi" / "openslide-python" / "boxes_0.dcm"


def dicom(path: Path, **told: object) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = pydicom.Dataset()
    made.file_meta = meta
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.Modality, made.SeriesInstanceUID, made.Rows, made.Columns = "SM", "1.2.3", 256, 256
    for name, value in told.items():
        setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("kind", "burned", "expected"),
    [("VOLUME", "YES", True), ("VOLUME", "NO", False), ("LABEL", "YES", False), ("OVERVIEW", "YES", False)],
)
def test_words_burned_into_the_slide_are_told_those_of_its_label_not(
    tmp_path: Path, kind: str, burned: str, expected: bool
) -> None:
    path = dicom(tmp_path / "a.dcm", ImageType=["ORIGINAL", "PRIMARY", kind, "NONE"], BurnedInAnnotation=burned)
    header = dicom_header(path)
    assert header is not None
    assert header.burned_in == expected


@pytest.mark.skipif(not SLIDE.exists(), reason=NO_DATA)
def test_burned_in_annotation_of_a_dicom_slide_is_a_severe_finding(tmp_path: Path) -> None:
    for path in SLIDE.parent.glob("boxes_*.dcm"):
        shutil.copy(path, tmp_path)
    assert not [f for f in read(tmp_path / SLIDE.name, mpp=0.5).findings if "BurnedIn" in f.what]
    told = pydicom.dcmread(tmp_path / SLIDE.name)
    told.BurnedInAnnotation = "YES"
    told.save_as(tmp_path / SLIDE.name)
    (found,) = [f for f in read(tmp_path / SLIDE.name, mpp=0.5).findings if "BurnedInAnnotation is YES" in f.what]
    assert found.level == "severe"
    assert "BurnedInAnnotation is YES" in str(describe(tmp_path / SLIDE.name)["findings"])


@pytest.mark.parametrize(("tag", "vr", "raw"), [
    (b"\x28\x00\x10\x00", b"US", b"\1"), (b"\x28\x00\x10\x00", b"IS", b"x1"), (b"\x28\x00\x10\x00", b"FD", b"\0\0"),
    (b"\x08\x00\x60\x00", b"SQ", b"\xff\xff"), (b"\x08\x00\x60\x00", b"ZZ", b"ab"),
])  # fmt: skip
def test_a_value_that_cannot_be_converted_is_one_sentence(tmp_path: Path, tag: bytes, vr: bytes, raw: bytes) -> None:
    path = dicom(tmp_path / "a.dcm")
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x60\x00CS")
    length = (b"\0\0" + len(raw).to_bytes(4, "little")) if vr in (b"SQ", b"ZZ") else len(raw).to_bytes(2, "little")
    path.write_bytes(content[:at] + tag + vr + length + raw)
    series_of(path)
    with pytest.raises(InputError, match="; "):
        read(path, mpp=0.5)
    assert describe(path)["problem"]


def test_a_deflated_dicom_is_never_inflated(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm")
    told = pydicom.dcmread(path)
    told.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    told.save_as(path, enforce_file_format=True)
    head = path.read_bytes()
    deflated = zlib.compressobj(wbits=-15)
    path.write_bytes(head + deflated.compress(bytes(10**7)) + deflated.flush())
    assert dicom_header(path) is None


def test_tiles_of_a_dicom_slide_larger_than_any_are_refused_by_their_claim(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tiles of 60000 x 60000 px"):
        read(dicom(tmp_path / "a.dcm", Rows=60_000, Columns=60_000), mpp=0.5)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "..\\secret.jpg"])
def test_an_index_that_names_a_file_outside_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "slide.vms"
    path.write_text(f"[Virtual Microscope Specimen]\nNoLayers=1\nImageFile={name}\n", encoding="utf-8")
    for asked in (slide_files, read):
        with pytest.raises(InputError, match="names files outside its own folder"):
            asked(path)
