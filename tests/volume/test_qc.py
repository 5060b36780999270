"""Laws of the quality check: each spoiled scan gets its remark, a good one none."""

from __future__ import annotations

import numpy as np
import pytest

from cmssd_core.types import Volume
from cmssd_core.volume.qc import check


def limb(shape=(14, 90, 90), noise=6.0, seed=0):
    rng = np.random.default_rng(seed)
    _, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    image = np.where(np.hypot(y, x) < 0.85, 500.0, 0) + np.where(np.hypot(y - 0.2, x) < 0.3, 200.0, 0)
    return np.abs(image + rng.normal(0, noise, shape)).astype(np.float32)


def remarks(voxels, spacing=(1.0, 1.0, 4.0), contrast="t1"):
    return check(Volume(voxels[None], np.diag([*spacing, 1.0]), (contrast,)))


def test_a_good_scan_gets_no_remark():
    assert remarks(limb()) == ()


@pytest.mark.parametrize(
    ("voxels", "spacing", "word"),
    [
        (limb(), (1.0, 1.0, 7.0), "7.0 mm apart"),
        (limb(), (0.8, 0.8, 4.0), "5.0 times"),
        (limb(), (0.5, 0.5, 2.0), "field of view is 45 mm"),
        (limb((1, 90, 90)), (1.0, 1.0, 4.0), "one slice"),
        (limb(noise=120), (1.0, 1.0, 4.0), "noisy"),
        (np.minimum(limb(), 400), (1.0, 1.0, 4.0), "clipped"),
        ((limb() > 250).astype(np.float32), (1.0, 1.0, 4.0), "looks like a mask"),
        (limb(), (2.5, 2.5, 4.0), "coarse"),
    ],
)
def test_each_flaw_has_its_sentence(voxels, spacing, word):
    assert any(word in finding.what for finding in remarks(voxels, spacing))


def test_cropped_scan_is_remarked():
    voxels = limb()
    voxels[:, :60] = 0
    voxels[:, :, :40] = 0
    assert any("cropped or masked" in finding.what for finding in remarks(voxels))


def test_bright_slice_is_named_by_its_number_from_1():
    voxels = limb()
    voxels[6] *= 1.8
    found = [finding for finding in remarks(voxels) if "brightness" in finding.what]
    assert found[0].where == "mri t1, slice 7"


def test_a_limb_that_narrows_is_no_jump():
    voxels = limb()
    for i in range(14):
        voxels[i, : 3 * i] = 2
    assert not any("brightness" in finding.what for finding in remarks(voxels))


def test_ct_and_pet_are_not_judged_as_mri():
    assert not any("noisy" in finding.what for finding in remarks(limb(noise=120), contrast="ct"))


def ct(seed=0):
    """A limb in Hounsfield units: muscle, bone, and air that the scanner cuts off at -1024."""
    return np.maximum(limb(noise=30, seed=seed) * 2 - 1100, -1024).astype(np.float32)


def test_a_ct_that_was_never_rescaled_is_remarked_as_severe():
    assert remarks(ct(), contrast="ct") == ()
    raw = remarks((ct() + 1024) * 2, contrast="ct")
    assert [finding.level for finding in raw] == ["severe"]
    assert "export the CT in Hounsfield units" in raw[0].what
    assert "-200 to 1400 HU" in raw[0].what
    unit = ct() - ct().min()
    assert any("Hounsfield" in finding.what for finding in remarks(unit / unit.max(), contrast="ct"))
    assert not any("Hounsfield" in finding.what for finding in remarks((ct() + 1024) * 2, contrast="t1"))


def test_a_pet_in_becquerel_is_remarked_as_severe_and_one_in_suv_is_not():
    suv = np.maximum(limb(noise=2) / 60 - 0.4, 0).astype(np.float32)
    assert remarks(suv, contrast="pet") == ()
    raw = remarks(suv * 5000, contrast="pet")
    assert [finding.level for finding in raw] == ["severe"]
    assert "not SUV" in raw[0].what


def test_air_of_one_value_is_no_crop_where_the_unit_says_so():
    voxels = np.full((14, 90, 90), -1000.0, dtype=np.float32)
    voxels[:, 30:60, 30:60] = limb()[:, 30:60, 30:60]
    assert not any("cropped" in finding.what for finding in remarks(voxels, contrast="ct"))
    assert any("cropped" in finding.what for finding in remarks(voxels, contrast="t1"))
    assert any("cropped" in finding.what for finding in remarks(voxels + 900, contrast="ct"))
