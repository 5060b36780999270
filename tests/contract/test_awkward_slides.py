"""Slides that are read wrongly elsewhere are read rightly here, refused, or named in a finding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import awkward_slides
import numpy as np
import pytest
import tifffile
from command import run
from PIL import Image

from cmssd_core.slide.pixels import open_source
from cmssd_core.slide.read import describe, read, region
from cmssd_core.types import InputError, Slide


def drawn(slide: Slide) -> np.ndarray:
    assert slide.mpp is not None
    return region(slide, xy=(0, 0), size_px=slide.level_sizes[0], mpp=slide.mpp)


@pytest.mark.parametrize("tile", [None, (256, 256)], ids=["strips", "tiles"])
def test_of_two_pictures_the_largest_is_read_and_both_are_named(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    path = awkward_slides.two_pages(tmp_path / "two_pages.tif", tile=tile)
    reading = read(path)
    assert reading.value.level_sizes == ((768, 768),)
    np.testing.assert_array_equal(drawn(reading.value), tifffile.imread(path, key=1))
    (found,) = reading.findings
    assert found.level == "warning"
    assert "160 x 120, 768 x 768" in found.what
    assert describe(path)["findings"][0]["what"] == found.what


def test_two_pictures_of_one_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "same.tif"
    with tifffile.TiffWriter(path) as writer:
        for seed in (0, 1):
            writer.write(awkward_slides.pixels(64, 64, seed=seed), photometric="rgb", **awkward_slides.HALF_A_MICRON)
    with pytest.raises(InputError, match=r"holds 2 pictures of 64 x 64 px \(pages 1, 2\)"):
        read(path)


def test_levels_and_masks_are_no_pictures_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as writer:
        big = awkward_slides.pixels(512, 512)
        writer.write(big, photometric="rgb", tile=(128, 128), **awkward_slides.HALF_A_MICRON)
        writer.write(big[::2, ::2], photometric="rgb", tile=(128, 128), subfiletype=1)
    reading = read(path)
    assert reading.value.level_sizes == ((512, 512), (256, 256))
    assert reading.findings == ()


def test_a_larger_picture_below_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "below.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(awkward_slides.pixels(64, 64), photometric="rgb", subifds=1, **awkward_slides.HALF_A_MICRON)
        writer.write(awkward_slides.pixels(256, 256), photometric="rgb")
    with pytest.raises(InputError, match="lies in a directory below another"):
        read(path)


@pytest.mark.parametrize(("size", "unit"), [(0.5, None), (500, "nm"), (0.0005, "mm"), (0.5, "µm")])
@pytest.mark.parametrize("tile", [None, (256, 256)], ids=["strips", "tiles"])
def test_ome_xml_is_believed_in_its_own_unit_and_the_tag_is_named(
    tmp_path: Path, size: float, unit: str | None, tile: tuple[int, int] | None
) -> None:
    reading = read(awkward_slides.ome(tmp_path / "slide.ome.tif", size, unit=unit, tile=tile))
    assert reading.value.mpp == pytest.approx(0.5)
    (found,) = reading.findings
    assert found.level == "warning"
    assert "0.5" in found.what
    assert "1.27" in found.what


def test_an_impossible_word_of_ome_xml_is_named_beside_the_tag_that_is_used(tmp_path: Path) -> None:
    reading = read(awkward_slides.ome(tmp_path / "slide.ome.tif", 500))
    assert reading.value.mpp == pytest.approx(1.27)
    assert "the OME-XML says 500 microns per pixel, which no slide scan has" in reading.findings[0].what


def test_an_entity_in_ome_xml_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ome.tif"
    pixels = '<Pixels SizeX="64" SizeY="64" PhysicalSizeX="&a;"/>'
    text = f'<!DOCTYPE OME [<!ENTITY a "0.5">]><OME><Image>{pixels}</Image></OME>'
    tifffile.imwrite(path, awkward_slides.pixels(64, 64), photometric="rgb", description=text, metadata=None)
    with pytest.raises(InputError, match="says no microns per pixel"):
        read(path)


def test_an_aperio_header_in_an_exported_tiff_is_named_beside_the_tag(tmp_path: Path) -> None:
    path = tmp_path / "crop.tif"
    text = "Aperio Image Library v11.2.1\r\n64x64|AppMag = 40|MPP = 0.2520|Left = 25"
    tifffile.imwrite(path, awkward_slides.pixels(64, 64), photometric="rgb", description=text, metadata=None,
                     **awkward_slides.HALF_A_MICRON)  # fmt: skip
    reading = read(path)
    assert reading.value.mpp == pytest.approx(0.252)
    assert "0.252" in reading.findings[0].what
    assert "tag 0.5" in reading.findings[0].what


@pytest.mark.parametrize("tile", [None, (256, 256)], ids=["strips", "tiles"])
def test_twelve_bits_in_sixteen_are_refused_and_sixteen_are_read(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    deep = awkward_slides.pixels().astype(np.uint16)
    tifffile.imwrite(tmp_path / "twelve.tif", deep * 16, photometric="rgb", tile=tile, **awkward_slides.HALF_A_MICRON)
    with pytest.raises(InputError, match=r"16 bits a colour.*as where 12 bits are kept in 16"):
        read(tmp_path / "twelve.tif")
    tifffile.imwrite(tmp_path / "full.tif", deep * 257, photometric="rgb", tile=tile, **awkward_slides.HALF_A_MICRON)
    assert np.abs(drawn(read(tmp_path / "full.tif").value).astype(int) - deep).max() <= 1


def test_a_resolution_coarser_than_any_scan_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "coarse.tif"
    tifffile.imwrite(path, awkward_slides.pixels(64, 64), photometric="rgb", resolution=(1000, 1000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    with pytest.raises(InputError, match="says 10 microns per pixel, at most 8 were expected") as asked:
        read(path)
    assert asked.value.field == "mpp"
    assert read(path, mpp=10).value.mpp == 10
    assert read(path, mpp=0.5).findings[0].what.endswith("the user's is used")


@pytest.mark.parametrize(
    ("tile", "claimed", "said"),
    [((256, 256), 100_000, "which no scan fits in"), ((8192, 8192), 16_384, "at most 4096 x 4096 were expected")],
)
def test_a_few_bytes_that_claim_a_whole_slide_are_refused_undecoded(
    tmp_path: Path, tile: tuple[int, int], claimed: int, said: str
) -> None:
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, np.zeros((256, 256, 3), np.uint8), photometric="rgb", tile=(256, 256), compression="zlib",
                     **awkward_slides.HALF_A_MICRON)  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as opened:
        tags = opened.pages[0].tags
        for name, value in (("ImageWidth", claimed), ("ImageLength", claimed)):
            tags[name].overwrite(value)
        for name, value in zip(("TileWidth", "TileLength"), tile, strict=True):
            tags[name].overwrite(value)
    with pytest.raises(InputError, match=said):
        read(path)


def test_a_plain_picture_larger_than_any_is_refused_by_its_claim(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    Image.new("RGB", (64, 64)).save(path)
    with tifffile.TiffFile(path, mode="r+b") as opened:
        for name in ("ImageWidth", "ImageLength"):
            opened.pages[0].tags[name].overwrite(60_000)
    with pytest.raises(InputError, match="which no scan fits in"):
        read(path, mpp=0.5)


@pytest.mark.parametrize("bigtiff", [False, True], ids=["tiff", "bigtiff"])
@pytest.mark.parametrize("compression", [None, "lzw", "jpeg"])
@pytest.mark.parametrize("level", [0, 1])
def test_a_file_that_ends_before_the_pixels_of_a_level_is_refused_at_opening(
    tmp_path: Path, level: int, compression: str | None, bigtiff: bool
) -> None:
    path = tmp_path / "cut.tif"
    ends = awkward_slides.pyramid(path, bigtiff=bigtiff, compression=compression)
    content = path.read_bytes()
    path.write_bytes(content[: ends[level] - 1])
    with pytest.raises(InputError, match=rf"cut short: 1 of the {(16, 4)[level]} tiles .* copy or export it again"):
        open_source(path)
    assert not describe(path)["readable"]
    path.write_bytes(content[: ends[2] - 1])  # the label lost its end, and is never opened
    assert read(path).value.level_sizes == ((512, 512), (256, 256))


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_strips_that_are_not_there_are_refused_and_bytes_rounded_up_are_not(
    tmp_path: Path, compression: str | None
) -> None:
    path, stored = tmp_path / "cut.tif", awkward_slides.pixels(300, 200)
    tifffile.imwrite(
        path, stored, photometric="rgb", rowsperstrip=64, compression=compression, **awkward_slides.HALF_A_MICRON
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    with pytest.raises(InputError, match=r"cut short: \d of the 5 strips"):
        read(path)
    if compression is None:
        tifffile.imwrite(path, stored, photometric="rgb", rowsperstrip=300, **awkward_slides.HALF_A_MICRON)
        with tifffile.TiffFile(path, mode="r+b") as opened:
            opened.pages[0].tags["StripByteCounts"].overwrite(stored.nbytes + 100)
        np.testing.assert_array_equal(drawn(read(path).value), stored)


def test_tiles_that_a_scanner_left_out_are_no_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    awkward_slides.pyramid(path)
    with tifffile.TiffFile(path, mode="r+b") as opened:
        tags = opened.pages[0].tags
        for name in ("TileOffsets", "TileByteCounts"):
            tags[name].overwrite([0, *tags[name].value[1:]])
    assert read(path).value.level_sizes[0] == (512, 512)


@pytest.mark.parametrize(("unit", "per_unit"), [("um", 2), ("micron", 2), ("\\u00B5m", 2), ("nm", 0.002), ("mm", 2000)])
@pytest.mark.parametrize("program", ["ImageJ", "another"])
def test_the_unit_of_imagej_is_believed_and_that_of_no_other_description(
    tmp_path: Path, unit: str, per_unit: float, program: str
) -> None:
    path, stored = tmp_path / "imagej.tif", awkward_slides.pixels(64, 80)
    text = f"{program}=1.54f\nunit={unit}\nloop=false\n"
    tifffile.imwrite(path, stored, photometric="rgb", description=text, metadata=None, resolution=(per_unit, per_unit),
                     resolutionunit="NONE")  # fmt: skip
    if program == "ImageJ":
        reading = read(path)
        assert reading.value.mpp == pytest.approx(0.5, rel=1e-3)
        np.testing.assert_array_equal(drawn(reading.value), stored)
        return
    with pytest.raises(InputError, match="says no microns per pixel") as asked:
        read(path)
    assert asked.value.field == "mpp"


def test_what_tifffile_writes_for_imagej_is_read(tmp_path: Path) -> None:
    path = tmp_path / "imagej.tif"
    tifffile.imwrite(path, awkward_slides.pixels(64, 80), imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    assert read(path).value.mpp == pytest.approx(0.5)


@pytest.mark.parametrize(
    "how",
    [
        {"photometric": "minisblack", "metadata": {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}},
        {"imagej": True, "resolution": (2, 2), "metadata": {"axes": "CYX", "unit": "um"}},
    ],
    ids=["ome", "imagej"],
)
def test_channels_kept_apart_are_called_one_picture(tmp_path: Path, how: dict[str, object]) -> None:
    path = tmp_path / ("apart.tif" if "imagej" in how else "apart.ome.tif")
    tifffile.imwrite(path, awkward_slides.pixels(64, 80).transpose(2, 0, 1).copy(), **how)
    said = "keeps the 3 channels of one picture of 80 x 64 px apart, each in a page of its own, .* export it as RGB"
    with pytest.raises(InputError, match=said):
        read(path)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("tile", [None, (256, 256)], ids=["strips", "tiles"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_read_as_it_is_stored_and_the_tag_that_turns_it_is_named(
    tmp_path: Path, orientation: int, tile: tuple[int, int] | None, compression: str | None
) -> None:
    path = tmp_path / "turned.tif"
    pixels = awkward_slides.turned(path, orientation, tile=tile, compression=compression)
    reading = read(path)
    assert reading.value.level_sizes == ((700, 768),)
    np.testing.assert_array_equal(drawn(reading.value), pixels)
    np.testing.assert_array_equal(tifffile.imread(path), pixels)
    said = [(found.level, found.what.partition(":")[0]) for found in reading.findings]
    assert said == ([] if orientation == 1 else [("warning", f"the file's tag Orientation is {orientation}")])


@pytest.mark.parametrize("how", [{}, {"tile": (256, 256)}], ids=["strips", "tiles"])
def test_jpeg_in_a_turned_tiff_is_read_as_it_is_stored(tmp_path: Path, how: dict[str, object]) -> None:
    path = tmp_path / "turned.tif"
    pixels = awkward_slides.turned(path, 6, compression="jpeg", **how)
    difference = drawn(read(path).value).astype(int) - pixels
    assert np.abs(difference).mean() < 8
    assert abs(difference[:200, :100].mean()) < 2


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_exif_turns_no_picture_and_is_named(tmp_path: Path, suffix: str) -> None:
    path, exif = tmp_path / f"turned{suffix}", Image.Exif()
    exif[274] = 6
    stored = Image.fromarray(awkward_slides.pixels(64, 80))
    stored.save(path, exif=exif)
    reading = read(path, mpp=0.5)
    assert reading.value.level_sizes == ((80, 64),)
    (found,) = reading.findings
    assert "tag Orientation is 6" in found.what
    stored.save(path)
    assert read(path, mpp=0.5).findings == ()


def test_a_turned_slide_that_cannot_be_read_unturned_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    awkward_slides.turned(tmp_path / "large.tif", 3, tile=(256, 256))
    monkeypatch.setattr("cmssd_core.slide.pixels.PLAIN_LIMIT_PX", 1000)
    with pytest.raises(InputError, match=r"Orientation is 3\), and is too large .* export it again with Orientation 1"):
        read(tmp_path / "large.tif")
    text = "Aperio Image Library v11.2.1\r\n700x768|AppMag = 40|MPP = 0.2520"
    awkward_slides.turned(tmp_path / "slide.svs", 3, tile=(256, 256), description=text, metadata=None)
    with pytest.raises(InputError, match=r"Orientation is 3\), and its tiles cannot be read unturned"):
        read(tmp_path / "slide.svs")


@pytest.mark.parametrize("tile", [None, (256, 256)], ids=["strips", "tiles"])
@pytest.mark.parametrize("value", [0, 100, 255])
@pytest.mark.parametrize("kind", ["unspecified", "unassalpha"])
def test_a_fourth_channel_is_transparency_only_where_the_file_says_so(
    tmp_path: Path, kind: str, value: int, tile: tuple[int, int] | None
) -> None:
    path, colours = tmp_path / "four.tif", awkward_slides.pixels(300, 400)
    four = np.dstack([colours, np.full(colours.shape[:2], value, np.uint8)])
    tifffile.imwrite(path, four, photometric="rgb", extrasamples=[kind], tile=tile, **awkward_slides.HALF_A_MICRON)
    alpha = 1.0 if kind == "unspecified" else value / 255
    expected = alpha * colours + (1 - alpha) * 255
    assert np.abs(drawn(read(path).value) - expected).max() <= (0 if alpha == 1 else 3)


def test_a_large_picture_with_a_fourth_channel_is_read_where_that_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmssd_core.slide.pixels.PLAIN_LIMIT_PX", 1000)
    colours, path = awkward_slides.pixels(300, 400), tmp_path / "four.tif"
    for value in (255, 0):
        four = np.dstack([colours, np.full(colours.shape[:2], value, np.uint8)])
        tifffile.imwrite(path, four, photometric="rgb", extrasamples=["unspecified"], tile=(256, 256),
                         **awkward_slides.HALF_A_MICRON)  # fmt: skip
        if value:
            np.testing.assert_array_equal(drawn(read(path).value), colours)
            continue
        with pytest.raises(InputError, match=r"fourth channel that nothing calls transparency .* export it as RGB"):
            read(path)


@pytest.mark.parametrize("make", [awkward_slides.two_pages, lambda path: awkward_slides.ome(path, 0.5)])
def test_the_command_says_it_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path]
) -> None:
    assert run("inspect", make(tmp_path / "slide.ome.tif"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["findings"]
