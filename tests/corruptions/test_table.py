"""Corruptions: five levels that hurt more and more, nothing at level 0, the same from the same generator."""

from __future__ import annotations

import numpy as np
import pytest

from cmssd_core.corruptions.table import CORRUPTIONS, LEVELS, corrupt_bag, corrupt_volume
from cmssd_core.types import PatchBag, Volume

MRI = [name for name, corruption in CORRUPTIONS.items() if corruption.modality == "mri"]
HE = [name for name, corruption in CORRUPTIONS.items() if corruption.modality == "he"]


def volume(axis: int = 0) -> Volume:
    z, y, x = np.mgrid[:7, :48, :40]
    body = 600.0 * (((y - 24) ** 2 + (x - 20) ** 2) < 300) + 200.0 * (((y - 20) ** 2 + (x - 24) ** 2) < 30) + 5 + z
    body += np.random.default_rng(9).normal(0, 8, body.shape)
    spacing = np.roll((5.0, 1.5, 1.5), axis)
    voxels = np.transpose(np.abs(body), np.roll((0, 1, 2), axis))
    affine = np.diag([*spacing[::-1], 1.0])
    return Volume(np.ascontiguousarray(np.stack([voxels, voxels[::-1]]), dtype=np.float32), affine, ("t1", "t2"))


def bag() -> PatchBag:
    rng = np.random.default_rng(4)
    patches = np.full((4, 64, 64, 3), (225, 160, 205), np.uint8)
    for patch in patches:
        for y, x in rng.integers(2, 58, (25, 2)):
            patch[y : y + 5, x : x + 4] = (90, 50, 140)
    return PatchBag(patches, np.zeros((4, 2), np.int64), 1.0, 1.0)


def test_there_are_as_many_as_promised() -> None:
    assert len(HE) >= 8
    assert len(MRI) >= 6
    assert len(LEVELS) == 5


def change(name: str, level: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if name in MRI:
        return corrupt_volume(volume(), name, level, rng).voxels
    return corrupt_bag(bag(), name, level, rng).patches


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_keeps_shape_type_and_draws_from_its_generator_alone(name: str) -> None:
    given = volume().voxels if name in MRI else bag().patches
    one, again, other = change(name, 3), change(name, 3), change(name, 3, seed=2)
    assert one.shape == given.shape
    assert one.dtype == given.dtype
    assert np.isfinite(one).all()
    assert np.array_equal(one, again)
    if name not in ("jpeg", "defocus", "pixelate", "blur", "brightness", "colour", "gamma", "stain", "low_resolution"):
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_level_0_changes_nothing_and_more_hurts_more(name: str) -> None:
    given = (volume().voxels if name in MRI else bag().patches).astype(float)
    away = [float(np.abs(change(name, level).astype(float) - given).mean()) for level in (0, 0.5, 1, 3, 5)]
    assert away[0] < 1e-3 * given.mean() + 0.5 * (name in HE)
    assert away[2] > away[0]
    assert away[1] <= away[3]
    assert away[4] > away[3] > away[2]


def test_what_was_given_is_not_changed_in_place() -> None:
    for name in CORRUPTIONS:
        image = volume() if name in MRI else bag()
        before = (image.voxels if isinstance(image, Volume) else image.patches).copy()
        rng = np.random.default_rng(0)
        _ = corrupt_volume(image, name, 4, rng) if isinstance(image, Volume) else corrupt_bag(image, name, 4, rng)
        assert np.array_equal(before, image.voxels if isinstance(image, Volume) else image.patches)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("name", ["motion", "blur", "ghosting", "low_resolution"])
def test_artefacts_stay_in_the_slices_plane_however_the_scan_lies(name: str, axis: int) -> None:
    turned = corrupt_volume(volume(axis), name, 3, np.random.default_rng(1)).voxels[0]
    straight = corrupt_volume(volume(), name, 3, np.random.default_rng(1)).voxels[0]
    assert np.transpose(straight, np.roll((0, 1, 2), axis)) == pytest.approx(turned, abs=1.0)


def test_noise_is_rician_with_the_sigma_that_is_stated() -> None:
    dark = np.zeros((2, 100, 100), np.float32)
    dark[0] = 1000.0
    found = CORRUPTIONS["noise"].change(dark, 1, np.random.default_rng(0))
    assert found[0].std() == pytest.approx(20.0, rel=0.05)  # bright: Gaussian
    assert found[1].mean() == pytest.approx(20.0 * np.sqrt(np.pi / 2), rel=0.05)  # air: Rayleigh


@pytest.mark.parametrize(("name", "share"), [("tear", 0.20), ("pen", 0.10)])
def test_area_is_what_is_stated(name: str, share: float) -> None:
    plain = PatchBag(np.full((40, 64, 64, 3), 150, np.uint8), np.zeros((40, 2), np.int64), 1.0, 1.0)
    touched = (corrupt_bag(plain, name, 3, np.random.default_rng(0)).patches != 150).any(-1).mean()
    assert touched == pytest.approx(share, rel=0.25)
