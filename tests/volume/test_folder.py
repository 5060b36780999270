"""Laws of folders: nothing that may be a scan is left out in silence, through whatever door it comes."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from awkward_dicom import phantom, series

from cmssd_core.types import InputError
from cmssd_core.volume.read import read

V = phantom()
ZYX = np.rint(V.T).astype(np.float32)
DOORS = pytest.mark.parametrize(
    "door", [lambda path: read(path), lambda path: read(contrasts={"t1": path})], ids=["inferred", "declared"]
)


def image(path, voxels=V):
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32), np.diag([1.5, 1.5, 4, 1])), path)


def severe(reading):
    return " | ".join(finding.what for finding in reading.findings if finding.level == "severe")


@DOORS
def test_dicom_beside_an_image_is_refused_with_both_named(tmp_path, door):
    series(tmp_path, V)
    image(tmp_path / "t2.nii.gz")
    with pytest.raises(InputError, match=r"DICOM files \(IM0000.dcm.*image files \(t2.nii.gz\)"):
        door(tmp_path)


@DOORS
@pytest.mark.parametrize("name", ["mask.nii.gz", "t1_mask.nii.gz", "TumourSeg.nrrd"])
def test_a_mask_beside_dicom_is_never_the_scan(tmp_path, door, name):
    series(tmp_path, V)
    image(tmp_path / "x.nii.gz", V / 2000)
    (tmp_path / "x.nii.gz").rename(tmp_path / name)
    reading = door(tmp_path)
    np.testing.assert_array_equal(reading.value.voxels[0], ZYX)
    assert any(name in finding.what for finding in reading.findings)


@DOORS
@pytest.mark.parametrize("damage", ["empty", "zeros", "page", "cut at 100", "cut at 140", "cut at 300", "mark"])
def test_a_slice_that_cannot_be_read_is_counted_and_named(tmp_path, door, damage):
    series(tmp_path, V)
    path = tmp_path / "IM0011.dcm"
    whole = path.read_bytes()
    broken = {
        "empty": b"", "zeros": bytes(len(whole)), "page": b"<html>403 Forbidden</html>", "cut at 100": whole[:100],
        "cut at 140": whole[:140], "cut at 300": whole[:300], "mark": whole[:128] + b"XXXX" + whole[132:],
    }  # fmt: skip
    path.write_bytes(broken[damage])
    reading = door(tmp_path)
    assert "1 DICOM file is empty, cut short or damaged" in severe(reading)
    assert "IM0011.dcm" in severe(reading)


@DOORS
def test_a_series_of_which_most_is_lost_is_refused(tmp_path, door):
    series(tmp_path, V)
    for path in sorted(tmp_path.iterdir())[:7]:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="7 are empty, cut short or damaged"):
        door(tmp_path)


@DOORS
def test_what_lies_beside_a_series_by_nature_is_passed_over(tmp_path, door):
    series(tmp_path, V)
    for name in ("DICOMDIR", "readme.txt", "a.xml", "Thumbs.db", ".DS_Store", "README", "s.json", "s.bval", "VERSION"):
        (tmp_path / name).write_bytes(b"x")
    assert door(tmp_path).findings == ()
