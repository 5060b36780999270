"""A DICOM slide whose tables do not lead to its tiles is refused: OpenSlide would read past its end."""

from __future__ import annotations

import struct
from pathlib import Path

import pydicom
import pytest
from fuzz_seeds import write_dicom_slide
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from cmssd_core.slide.frames import check_frames
from cmssd_core.slide.read import read
from cmssd_core.types import InputError


def written(path: Path, change) -> Path:
    """The sound slide with its pixels packed another way."""
    write_dicom_slide(path)
    opened = pydicom.dcmread(path)
    tiles = list(generate_frames(opened.PixelData, number_of_frames=int(opened.NumberOfFrames)))
    change(opened, tiles)
    opened["PixelData"].is_undefined_length = True
    opened.save_as(path)
    return path


def with_table(opened, tiles) -> None:
    opened.PixelData = encapsulate(tiles)


def without_table(opened, tiles) -> None:
    opened.PixelData = encapsulate(tiles, has_bot=False)


def with_two_pieces_a_tile(opened, tiles) -> None:
    opened.PixelData = encapsulate(tiles, fragments_per_frame=2)


def with_larger_table(opened, tiles) -> None:
    opened.PixelData, opened.ExtendedOffsetTable, opened.ExtendedOffsetTableLengths = encapsulate_extended(tiles)


@pytest.mark.parametrize("change", [with_table, without_table, with_two_pieces_a_tile, with_larger_table])
def test_each_way_to_pack_tiles_is_read(tmp_path: Path, change) -> None:
    path = written(tmp_path / "he.dcm", change)
    check_frames([path])
    assert read(path, mpp=0.5).value.level_sizes == ((96, 80),)


def moved(opened, tiles) -> None:
    packed = bytearray(encapsulate(tiles))
    struct.pack_into("<I", packed, 8 + 4 * 3, 1 << 20)
    opened.PixelData = bytes(packed)


def swapped(opened, tiles) -> None:
    packed = bytearray(encapsulate(tiles))
    packed[12:16], packed[16:20] = packed[16:20], packed[12:16]
    opened.PixelData = bytes(packed)


def one_less(opened, tiles) -> None:
    opened.PixelData = encapsulate(tiles[:-1])


def one_less_without_table(opened, tiles) -> None:
    opened.PixelData = encapsulate(tiles[:-1], has_bot=False)


def longer_than_it_is(opened, tiles) -> None:
    with_larger_table(opened, tiles)
    lengths = list(struct.unpack(f"<{len(tiles)}Q", opened.ExtendedOffsetTableLengths))
    lengths[-1] = 1 << 30
    opened.ExtendedOffsetTableLengths = struct.pack(f"<{len(tiles)}Q", *lengths)


@pytest.mark.parametrize("change", [moved, swapped, one_less, one_less_without_table, longer_than_it_is])
def test_tables_that_lead_elsewhere_are_refused(tmp_path: Path, change) -> None:
    path = written(tmp_path / "he.dcm", change)
    with pytest.raises(InputError, match=r"the pixels of he\.dcm are damaged"):
        read(path, mpp=0.5)


def test_other_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "he.png").write_bytes(b"\x89PNG")
    check_frames([tmp_path / "he.png"])


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "he.dcm", with_table)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(InputError, match=r"the pixels of he\.dcm are damaged"):
        check_frames([path])
