"""Patches: tissue only, never overlapping, bounded, evenly spread, the same at every call."""

from __future__ import annotations

from pathlib import Path

import awkward_slides
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cmssd_core.slide.patches import PatchSettings, bag, grid, spread, tissue_mask
from cmssd_core.slide.pixels import UNREADABLE, UnreadablePlaceError, open_slide, region, thumbnail
from cmssd_core.slide.read import read
from cmssd_core.types import InputError, Slide

PINK = np.array([215, 130, 175])


def tissue(tmp_path: Path, *, width: int, height: int, box: tuple[int, int, int, int], mpp: float = 1.0) -> Slide:
    """A white image with noisy pink tissue in box (left, top, right, bottom)."""
    rng = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 245, dtype=np.int64)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = PINK + rng.integers(-25, 25, (bottom - top, right - left, 3))
    path = tmp_path / "tissue.png"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return read(path, mpp=mpp).value


def test_patches_come_from_tissue_only(tmp_path: Path) -> None:
    slide = tissue(tmp_path, width=512, height=256, box=(256, 0, 512, 256))
    cut, _, _ = bag(slide, settings=PatchSettings(patch_px=64))
    assert len(cut.patches) == 16
    assert (cut.xy[:, 0] >= 256).all()


def test_a_patch_is_the_slides_pixels_at_its_corner(tmp_path: Path) -> None:
    slide = tissue(tmp_path, width=256, height=256, box=(0, 0, 256, 256))
    cut, _, _ = bag(slide, settings=PatchSettings(patch_px=64))
    pixels = np.asarray(Image.open(slide.path))
    for patch, (x, y) in zip(cut.patches, cut.xy, strict=True):
        np.testing.assert_array_equal(patch, pixels[y : y + 64, x : x + 64])


def test_never_more_than_max_patches_and_always_the_same(tmp_path: Path) -> None:
    slide = tissue(tmp_path, width=640, height=640, box=(0, 0, 640, 640))
    first, _, steps = bag(slide, settings=PatchSettings(patch_px=32, max_patches=7))
    second, _, _ = bag(slide, settings=PatchSettings(patch_px=32, max_patches=7))
    assert len(first.patches) == 7
    np.testing.assert_array_equal(first.xy, second.xy)
    assert "7 of 400" in steps[0]


def test_a_coarse_slide_is_enlarged_with_a_warning(tmp_path: Path) -> None:
    slide = tissue(tmp_path, width=128, height=128, box=(0, 0, 128, 128), mpp=2.0)
    cut, findings, _ = bag(slide, settings=PatchSettings(patch_px=64, mpp=1.0))
    assert cut.patches.shape[1:] == (64, 64, 3)
    assert any("enlarged" in f.what and f.level == "warning" for f in findings)


def test_an_image_smaller_than_a_patch_is_one_centred_patch_on_white(tmp_path: Path) -> None:
    slide = tissue(tmp_path, width=40, height=50, box=(0, 0, 40, 50))
    cut, findings, _ = bag(slide, settings=PatchSettings(patch_px=64))
    assert cut.patches.shape == (1, 64, 64, 3)
    assert cut.xy.tolist() == [[-12, -7]]
    assert (cut.patches[0, :7] == 255).all()
    np.testing.assert_array_equal(cut.patches[0, 7:57, 12:52], np.asarray(Image.open(slide.path)))
    assert [f for f in findings if "padded" in f.what]


def test_blank_glass_is_refused_in_a_sentence(tmp_path: Path) -> None:
    slide = tissue(tmp_path, width=100, height=100, box=(0, 0, 0, 0))
    with pytest.raises(InputError, match=r"no tissue found in tissue\.png"):
        bag(slide, settings=PatchSettings(patch_px=64))


def test_a_thin_core_is_used_with_a_warning(tmp_path: Path) -> None:
    slide = tissue(tmp_path, width=256, height=256, box=(0, 120, 256, 132))
    cut, findings, _ = bag(slide, settings=PatchSettings(patch_px=128))
    assert len(cut.patches) >= 1
    assert any("little tissue" in f.what for f in findings)


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    edge=st.floats(16, 2000),
)
@settings(max_examples=100, deadline=None)
def test_grid_cells_never_overlap_and_stay_inside(width: int, height: int, edge: float) -> None:
    corners = grid(width=width, height=height, edge=edge)
    for axis, size in ((0, width), (1, height)):
        places = np.unique(corners[:, axis])
        assert (np.diff(places) >= edge - 1e-6).all()
        if size >= edge:
            assert places[0] >= -1e-6 * size
            assert places[-1] + edge <= size * (1 + 1e-6) + 1e-3


@given(st.integers(1, 60), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_spread_gives_distinct_points(points: int, count: int) -> None:
    places = np.random.default_rng(points).random((points, 2))
    chosen = spread(places, count=count)
    assert len(set(chosen.tolist())) == min(points, count)


def test_spread_reaches_every_corner() -> None:
    places = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), -1).reshape(-1, 2)
    chosen = places[spread(places, count=9)]
    for corner in ([0, 0], [0, 9], [9, 0], [9, 9]):
        assert np.abs(chosen - corner).sum(1).min() <= 1


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_image_holds_no_tissue(value: int) -> None:
    assert not tissue_mask(np.full((50, 50, 3), value, np.uint8)).any()


@pytest.mark.parametrize(
    "bad", [{"patch_px": 0}, {"mpp": 0.0}, {"mpp": float("nan")}, {"max_patches": 0}, {"min_tissue": 0.0}]
)
def test_impossible_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError):
        PatchSettings(**bad)  # type: ignore[arg-type]


def test_a_patch_that_cannot_be_decoded_is_left_out_and_named(tmp_path: Path) -> None:
    slide = read(awkward_slides.spoilt_tile(tmp_path / "spoilt.tif", at=(1, 3), levels=2)).value
    cut, findings, steps = bag(slide, settings=PatchSettings(patch_px=128, mpp=0.5, overview_px=512))
    assert len(cut.patches) == len(cut.xy) == 60
    assert not ((cut.xy[:, 0] >= 768) & (cut.xy[:, 1] >= 256) & (cut.xy[:, 1] < 512)).any()
    (lost,) = (found for found in findings if found.level == "severe")
    assert lost.what.startswith("4 of 64 patches cannot be decoded (the first at x 768, y 256)")
    assert "60 of 64 tissue patches" in steps[0]


def test_tissue_is_not_looked_for_where_the_overview_cannot_be_decoded_and_that_is_named(tmp_path: Path) -> None:
    slide = read(awkward_slides.spoilt_tile(tmp_path / "spoilt.tif", at=(1, 3))).value
    cut, findings, _ = bag(slide, settings=PatchSettings(patch_px=128, mpp=0.5))
    assert len(cut.xy) == 60
    (lost,) = (found for found in findings if found.level == "severe")
    assert "no tissue is looked for there" in lost.what
    assert "one at x 768, y 256" in lost.what


def test_a_region_over_an_unreadable_place_is_one_sentence_and_the_next_is_read(tmp_path: Path) -> None:
    slide = read(awkward_slides.spoilt_tile(tmp_path / "spoilt.tif", at=(1, 3))).value
    with open_slide(slide) as opened:
        before = region(opened, xy=(0, 0), size_px=(64, 64), mpp=0.5)
        with pytest.raises(UnreadablePlaceError, match="at x 800, y 300"):
            region(opened, xy=(800, 300), size_px=(64, 64), mpp=0.5)
        np.testing.assert_array_equal(region(opened, xy=(0, 0), size_px=(64, 64), mpp=0.5), before)


def test_a_thumbnail_paints_what_cannot_be_decoded_and_nothing_else(tmp_path: Path) -> None:
    slide = read(awkward_slides.spoilt_tile(tmp_path / "spoilt.tif", at=(1, 3))).value
    small, _ = thumbnail(slide, max_px=512)
    painted = (small == UNREADABLE).all(-1)
    assert painted[128:256, 384:512].all()
    assert painted.sum() == 128 * 128


def test_one_unreadable_place_in_the_middle_is_a_finding_and_all_of_them_a_refusal(tmp_path: Path) -> None:
    assert read(awkward_slides.spoilt_tile(tmp_path / "corner.tif", at=(3, 3))).findings == ()
    reading = read(awkward_slides.spoilt_tile(tmp_path / "middle.tif", at=(1, 2)))
    assert "cannot be decoded at x 504, y 504 of its level 0" in reading.findings[0].what
    with pytest.raises(InputError, match="cannot be decoded as a slide"):
        read(awkward_slides.spoilt_tile(tmp_path / "small.tif", edge=256, at=(0, 0)))
