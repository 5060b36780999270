"""Laws of packed pixels: whatever the standard allows is read bit for bit, and nothing is decoded that fills memory."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from awkward_dicom import ORIGIN, picture, save, series
from places import DATA, NO_DATA
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from cmssd_core.types import InputError
from cmssd_core.volume.read import read

needs_data = pytest.mark.skipif(not (DATA / "mri").is_dir(), reason=NO_DATA)


def segments(*parts):
    """One RLE picture of segments packed by hand (PS3.5, annex G)."""
    parts = [part + b"\0" * (len(part) % 2) for part in parts]
    starts = [64 + sum(map(len, parts[:i])) for i in range(len(parts))]
    table = b"".join(n.to_bytes(4, "little") for n in (len(parts), *starts, *[0] * (15 - len(parts))))
    return table + b"".join(parts)


def packed(path, image, picture_bytes, **fields):
    head = picture(image, ORIGIN, **fields)
    head.PixelData = encapsulate([picture_bytes])
    head["PixelData"].VR = "OB"
    head.file_meta.TransferSyntaxUID = RLELossless
    return save(head, path)


def one_by_one(values):
    """Each byte as a run of its own, the longest that a sound segment gets."""
    return b"".join(b"\0" + bytes([value]) for value in values)


def ones_beside_twos(values):
    """A byte by itself, then two alike as a run, and so on: four bytes for three."""
    flat = np.asarray(values, dtype=np.uint8).tobytes()
    assert all(flat[i + 1] == flat[i + 2] for i in range(0, len(flat), 3))
    return b"".join(b"\0" + flat[i : i + 1] + b"\xff" + flat[i + 1 : i + 2] for i in range(0, len(flat), 3))


@pytest.mark.parametrize("pack", [one_by_one, ones_beside_twos])
def test_short_runs_are_sound_and_read_bit_for_bit(tmp_path, pack):
    low = np.random.default_rng(0).integers(0, 256, size=(40, 24, 2)).astype(np.uint16)
    image = np.concatenate([low, low[..., 1:]], axis=2).reshape(40, 72) + 256
    path = packed(tmp_path / "t1.dcm", image, segments(pack((image >> 8).ravel()), pack((image & 255).ravel())))
    assert np.array_equal(pydicom.dcmread(path).pixel_array, image)
    assert np.array_equal(read(path).value.voxels[0, 0], image)


@needs_data
def test_a_real_scan_packed_by_pydicom_is_read_bit_for_bit(tmp_path):
    folder = DATA / "mri/sts-ibsi/dicom/STS_006/MR_T1/image"
    for path in folder.iterdir():
        head = pydicom.dcmread(path)
        head.compress(RLELossless, generate_instance_uid=False)
        head.save_as(tmp_path / path.name)
    plain, again = read(folder).value, read(tmp_path).value
    assert np.array_equal(plain.voxels, again.voxels)
    assert np.array_equal(plain.affine, again.affine)


def test_runs_that_stand_for_more_than_the_picture_are_never_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(lambda _: pytest.fail("decoded")))
    image = np.zeros((1024, 1024), np.uint16)
    path = packed(tmp_path / "t1.dcm", image, segments(b"\x81\0" * 600_000, one_by_one([1] * 1024 * 1024)))
    with pytest.raises(InputError, match="do not fit the size its header says"):
        read(path)


def test_plain_and_packed_series_are_one(tmp_path):
    voxels = np.random.default_rng(1).integers(0, 4000, size=(40, 36, 12)).astype(np.uint16)
    series(tmp_path / "plain", voxels)
    for path in (tmp_path / "plain").iterdir():
        head = pydicom.dcmread(path)
        head.compress(RLELossless, generate_instance_uid=False)
        save(head, tmp_path / "packed" / path.name)
    assert np.array_equal(read(tmp_path / "plain").value.voxels, read(tmp_path / "packed").value.voxels)
