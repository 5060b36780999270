"""A plain image that is not what was saved is refused, as far as its format lets anyone know."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import awkward_slides
import numpy as np
import pytest
import simplejpeg
import tifffile
from awkward_slides import as_png, chunks, saved
from PIL import Image
from places import DATA, NO_DATA

from cmssd_core.slide.read import read
from cmssd_core.slide.sound import check
from cmssd_core.types import InputError

TILES = sorted(p for p in (DATA / "he_tiles").rglob("*") if p.suffix in (".png", ".jpg", ".tif"))


def flipped(content: bytes, at: int, bit: int) -> bytes:
    spoilt = bytearray(content)
    spoilt[at] ^= 1 << bit
    return bytes(spoilt)


@pytest.mark.skipif(not TILES, reason=NO_DATA)
def test_every_real_tile_is_sound() -> None:
    for path in TILES:
        assert not [found for found in check(path) if found.level != "info"], path.name


@pytest.mark.parametrize("how", [{}, {"compress_level": 0}, {"bits": 4}])
def test_no_flipped_bit_of_a_png_is_read_as_other_pixels(tmp_path: Path, how: dict[str, int]) -> None:
    path = saved(tmp_path / "a.png", **how)
    good, before = path.read_bytes(), np.asarray(Image.open(path))
    draw = random.Random(0)
    refused = 0
    for _ in range(150):
        path.write_bytes(flipped(good, draw.randrange(len(good)), draw.randrange(8)))
        try:
            read(path, mpp=0.5)
        except InputError:
            refused += 1
            continue
        np.testing.assert_array_equal(np.asarray(Image.open(path)), before)
    assert refused > 140


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_sound_pngs_of_every_kind_pass(tmp_path: Path, mode: str) -> None:
    for width, height in ((1, 1), (3, 5), (33, 17)):
        path = tmp_path / f"{mode}{width}.png"
        Image.new("RGB", (width, height), "pink").convert(mode).save(path)
        assert check(path) == ()


def test_an_interlaced_png_passes(tmp_path: Path) -> None:
    rows = []
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        w, h = len(range(x, 13, dx)), len(range(y, 7, dy))
        rows += [b"\0" + b"\x80" * (3 * w)] * h if w else []
    head = (13).to_bytes(4) + (7).to_bytes(4) + bytes((8, 2, 0, 0, 1))
    path = tmp_path / "passes.png"
    path.write_bytes(as_png([(b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]))
    assert (np.asarray(Image.open(path)) == 128).all(), "Pillow agrees that it is one"
    assert check(path) == ()


def test_a_png_whose_stream_lost_its_checksum_or_its_end_is_refused(tmp_path: Path) -> None:
    parts = chunks(saved(tmp_path / "a.png").read_bytes())
    stream = b"".join(content for kind, content in parts if kind == b"IDAT")
    rest = [part for part in parts if part[0] not in (b"IDAT", b"IEND")]
    for name, changed in (("adler", flipped(stream, -1, 0)), ("end", stream[:-4])):
        path = tmp_path / f"{name}.png"
        path.write_bytes(as_png([*rest, (b"IDAT", changed), (b"IEND", b"")]))
        with pytest.raises(InputError, match="is damaged"):
            read(path, mpp=0.5)
    path.write_bytes(as_png([*rest, (b"IDAT", stream)]))
    with pytest.raises(InputError, match="it is cut short"):
        read(path, mpp=0.5)


def test_a_png_with_more_pixels_than_it_claims_is_refused_before_they_are_inflated(tmp_path: Path) -> None:
    parts = chunks(saved(tmp_path / "a.png").read_bytes())
    head = next(content for kind, content in parts if kind == b"IHDR")
    bomb = zlib.compress(bytes(20_000_000), 9)
    path = tmp_path / "bomb.png"
    path.write_bytes(as_png([(b"IHDR", head), (b"IDAT", bomb), (b"IEND", b"")]))
    with pytest.raises(InputError, match="more pixels than it claims"):
        check(path)


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_cut_anywhere_is_refused_with_an_end_put_on_it_too(tmp_path: Path, how: dict[str, int]) -> None:
    path = saved(tmp_path / "a.jpg", quality=90, **how)
    good = path.read_bytes()
    first = good.index(b"\xff\xda") + 14
    for length in (first, first + 200, len(good) // 2, len(good) * 9 // 10, len(good) - 2):
        path.write_bytes(good[:length])
        with pytest.raises(InputError, match="is damaged"):
            read(path, mpp=0.5)
    for length in (first + 200, len(good) // 2, len(good) * 9 // 10):
        path.write_bytes(good[:length].rstrip(b"\xff") + b"\xff\xd9")
        with pytest.raises(InputError, match="is damaged"):
            read(path, mpp=0.5)


def test_what_libjpeg_warns_of_is_refused(tmp_path: Path) -> None:
    good = saved(tmp_path / "a.jpg", quality=90).read_bytes()
    draw, seen = random.Random(0), 0
    for _ in range(60):
        spoilt = flipped(good, draw.randrange(good.index(b"\xff\xda") + 14, len(good) - 2), draw.randrange(8))
        try:
            simplejpeg.decode_jpeg(spoilt)
        except ValueError:
            seen += 1
            (tmp_path / "b.jpg").write_bytes(spoilt)
            with pytest.raises(InputError):
                read(tmp_path / "b.jpg", mpp=0.5)
    assert seen > 5


def test_a_cmyk_jpeg_passes(tmp_path: Path) -> None:
    Image.new("CMYK", (40, 30), (10, 90, 20, 0)).save(tmp_path / "a.jpg")
    assert check(tmp_path / "a.jpg") == ()


def test_a_jpeg_of_a_thousand_scans_is_refused_undecoded(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", progressive=True)
    good = path.read_bytes()
    scan = good[good.rindex(b"\xff\xda") : -2]
    path.write_bytes(good[:-2] + scan * 200 + b"\xff\xd9")
    with pytest.raises(InputError, match="more than 100 scans"):
        read(path, mpp=0.5)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_what_follows_the_end_is_named(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    path.write_bytes(path.read_bytes() + b"a second picture")
    (found,) = read(path, mpp=0.5).findings
    assert found.what.startswith("16 bytes follow the end")


def test_an_animation_is_named(tmp_path: Path) -> None:
    first, second = (Image.fromarray(awkward_slides.pixels(20, 20, seed=seed)) for seed in (0, 1))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    assert "animation of 2 pictures" in read(tmp_path / "a.png", mpp=0.5).findings[0].what


@pytest.mark.parametrize("tile", [None, (64, 64)], ids=["strips", "tiles"])
def test_no_flipped_bit_of_a_deflated_tiff_is_read_as_other_pixels(
    tmp_path: Path, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, awkward_slides.pixels(128, 192), photometric="rgb", tile=tile, compression="zlib",
                     **awkward_slides.HALF_A_MICRON)  # fmt: skip
    assert read(path).findings == ()
    good = path.read_bytes()
    with tifffile.TiffFile(path) as opened:
        page = opened.pages[0]
        places = [offset + n for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
                  for n in range(count)]  # fmt: skip
    for at in random.Random(0).sample(places, 60):
        path.write_bytes(flipped(good, at, at % 8))
        with pytest.raises(InputError, match=r"damaged|cannot be decoded"):
            read(path)
