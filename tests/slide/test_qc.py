"""Slide quality: faults put into a clean tile are named, clean real tiles are left in peace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from places import DATA, NO_DATA

from cmssd_core.slide import qc, stain
from cmssd_core.slide.prepare import prepare
from cmssd_core.slide.read import read
from cmssd_core.types import InputError, PatchBag

TILES = DATA / "he_tiles"
CLEAN = sorted((TILES / "osteosarcoma-utsw").glob("*.jpg"))
real_tiles = pytest.mark.skipif(not CLEAN, reason=NO_DATA)


def tile(size: int = 512) -> np.ndarray:
    """Two-stain tissue with cell-sized structure."""
    rng = np.random.default_rng(0)
    amounts = rng.exponential([0.5, 0.4], size=(size // 8, size // 8, 2)).repeat(8, 0).repeat(8, 1)
    amounts = 0.3 + 0.5 * amounts * rng.uniform(0.8, 1.2, (size, size, 2))
    return np.clip(255 * np.exp(-amounts @ stain.REFERENCE.vectors), 0, 255).astype(np.uint8)


def as_bag(pixels: np.ndarray) -> PatchBag:
    return PatchBag(patches=pixels[None], xy=np.zeros((1, 2), np.int64), mpp=1.0, slide_mpp=1.0)


def said(pixels: np.ndarray) -> str:
    found = qc.check(pixels, overview_mpp=1.0, bag=as_bag(pixels))
    return " | ".join(f"{f.level}: {f.what}" for f in found)


def test_a_clean_tile_is_left_in_peace() -> None:
    assert said(tile()) == ""


@pytest.mark.parametrize(
    ("ink", "name"),
    [((20, 150, 90), "green"), ((20, 60, 200), "blue"), ((25, 25, 30), "black"), ((220, 20, 30), "red")],
)
def test_each_ink_is_named(ink: tuple[int, int, int], name: str) -> None:
    pixels = tile()
    pixels[200:240] = ink
    assert f"pen or ink covers part of the slide: {name}" in said(pixels)


def test_blur_is_named() -> None:
    soft = np.array(Image.fromarray(tile()).filter(ImageFilter.GaussianBlur(6)))
    assert "out of focus" in said(soft)


def test_a_fold_is_named() -> None:
    pixels = tile().astype(float)
    pixels[100:180] = 255 * (pixels[100:180] / 255) ** 2.6
    assert "as in folds" in said(pixels.astype(np.uint8))


def test_fluorescence_is_severe() -> None:
    dark = np.zeros((200, 200, 3), np.uint8)
    dark[50:90, 50:90, 2] = 200
    assert "severe: 96% of the slide is dark, as in fluorescence" in said(dark)


def test_greyscale_is_severe() -> None:
    grey = np.repeat(np.random.default_rng(0).integers(60, 220, (200, 200, 1), dtype=np.uint8), 3, -1)
    assert "severe: the slide is grey" in said(grey)


def test_little_tissue_is_named() -> None:
    pixels = np.full((512, 512, 3), 245, np.uint8)
    pixels[:64, :64] = tile(64)
    assert "mm2 of tissue" in said(pixels)


def test_a_foreign_stain_is_named() -> None:
    brown = stain.Stain(np.array([[0.1, 0.2, 0.9], [0.3, 0.3, 0.9]]), np.ones(2))
    assert "degrees from haematoxylin's" in qc.check_stain(brown)[0].what
    assert qc.check_stain(stain.REFERENCE) == ()


@real_tiles
def test_no_osteosarcoma_tile_is_called_pen_or_folded_or_not_he() -> None:
    blamed = {}
    for path in CLEAN[::3]:
        pixels = np.array(Image.open(path))
        found = [f for f in qc.check(pixels, overview_mpp=1.0) if "pen" in f.what or f.level == "severe"]
        if found or qc.fold_fraction(pixels[None], mpp=1.0) > 0.04:
            blamed[path.name] = found
    assert not blamed


@real_tiles
@pytest.mark.parametrize("name", ["no-tissue-red-pen.png", "medium-nuclei-score-green-pen-level1.png"])
def test_real_pen_is_called_pen(name: str) -> None:
    pixels = np.array(Image.open(TILES / "histolab" / name).convert("RGB"))
    assert any("pen or ink" in f.what for f in qc.check_overview(pixels, mpp=0.5))


@real_tiles
@pytest.mark.parametrize("name", ["no-tissue-red-pen.png", "no-tissue.png", "almost-white-1.png"])
def test_tiles_without_tissue_are_refused(name: str) -> None:
    slide = read(TILES / "histolab" / name, mpp=0.5).value
    with pytest.raises(InputError, match=r"(no tissue|shows pen)"):
        prepare(slide)


def saved(pixels: np.ndarray, folder: Path) -> Path:
    path = folder / "tile.png"
    Image.fromarray(pixels).save(path)
    return path


def test_preparing_gives_reference_colours_and_says_so(tmp_path: Path) -> None:
    pixels = tile()
    cut, findings, steps = prepare(read(saved(pixels, tmp_path), mpp=1.0).value)
    again = stain.estimate(cut.patches)
    for mine, true in zip(again.vectors, stain.REFERENCE.vectors, strict=True):
        assert stain.angle_deg(mine, true) < 3
    np.testing.assert_allclose(again.max_concentration, stain.REFERENCE.max_concentration, rtol=0.1)
    assert findings == ()
    assert "Macenko" in steps[-1]
    assert not cut.patches.flags.writeable


def test_tissue_without_two_stains_keeps_its_colours_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.3, 1.2, (256, 256, 1)).repeat(2, -1) * [1, 0]
    pixels = np.clip(255 * np.exp(-amounts @ stain.REFERENCE.vectors), 0, 255).astype(np.uint8)
    cut, findings, steps = prepare(read(saved(pixels, tmp_path), mpp=1.0).value)
    np.testing.assert_array_equal(cut.patches[0], pixels)
    assert any(f.level == "severe" and "not normalised" in f.what for f in findings)
    assert steps[-1] == "stain not normalised"


def test_dense_blue_nuclei_are_no_pen() -> None:
    pixels = np.full((512, 512, 3), (220, 160, 200), np.uint8)
    y, x = np.mgrid[:512, :512]
    pixels[(y % 24 - 12) ** 2 + (x % 24 - 12) ** 2 < 16] = (40, 50, 150)  # nuclei of 8 microns at 1 micron a pixel
    assert not any("pen" in finding.what for finding in qc.check_overview(pixels, mpp=1.0))
