"""Laws of NRRD headers: spaces, units and sizes are said once, or the file is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cmssd_core.types import InputError
from cmssd_core.volume.image import read_image

DIRECTIONS = "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)\n"
VOXELS = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(6, 5, 4)


def read(tmp_path, fields, *, sizes="4 5 6", end="\n", begin=""):
    rank = len(sizes.split())
    text = f"NRRD0005\n{begin}type: uchar\ndimension: {rank}\nsizes: {sizes}\nencoding: raw\n{fields}\n"
    path = tmp_path / "t1.nrrd"
    path.write_bytes(text.replace("\n", end).encode() + VOXELS.tobytes())
    return read_image(path, contrast="t1", limit_mb=64)


@pytest.mark.parametrize(
    ("space", "signs"),
    [("right-anterior-superior", (1, 1, 1)), ("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1)),
     ("LAS", (-1, 1, 1)), ("left-posterior-superior", (-1, -1, 1)), ("lps", (-1, -1, 1))],
)  # fmt: skip
def test_each_space_is_turned_into_ras(tmp_path, space, signs):
    stack = read(tmp_path, f"space: {space}\n{DIRECTIONS}")
    assert np.allclose(stack.affine[:3, 3], np.array(signs) * [10, 20, 30])
    assert np.allclose(stack.affine[:3, :3], np.diag(np.array(signs) * [2, 3, 4]))
    assert np.array_equal(stack.voxels, VOXELS)
    assert stack.findings == ()


@pytest.mark.parametrize(
    "fields",
    [
        "spacings: 2 3 4\n",
        "space: scanner-xyz\n" + DIRECTIONS,
        "space dimension: 3\n" + DIRECTIONS,
        "space: LPS\nspacings: 2 3 4\n",
    ],
)
def test_what_says_no_orientation_of_a_patient_is_remarked(tmp_path, fields):
    assert "no orientation" in read(tmp_path, fields).findings[0].what


def test_no_position_is_remarked(tmp_path):
    found = read(tmp_path, "space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\n").findings
    assert "no position" in found[0].what


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("cm", 10), ("m", 1000), ("um", 0.001), ("micron", 0.001)])
@pytest.mark.parametrize("space", [True, False])
def test_units_are_converted_whether_of_the_space_or_of_the_axes(tmp_path, unit, mm, space):
    x, y, z = (s / mm for s in (2, 3, 4))
    quoted = " ".join([f'"{unit}"'] * 3)
    fields = (
        f"space: RAS\nspace directions: ({x},0,0) (0,{y},0) (0,0,{z})\nspace origin: (0,0,{z})\nspace units: {quoted}\n"
        if space
        else f"spacings: {x} {y} {z}\nunits: {quoted}\n"
    )
    stack = read(tmp_path, fields)
    assert np.allclose(stack.spacing_mm, (2, 3, 4))
    assert any("converted to mm" in f.what for f in stack.findings) == (mm != 1)
    if space:
        assert stack.affine[2, 3] == pytest.approx(4)


def test_spacings_beside_directions_that_differ_are_a_severe_finding(tmp_path):
    found = read(tmp_path, f"space: LPS\n{DIRECTIONS}spacings: 1 1 1\n").findings
    assert [(f.level, "space directions is used" in f.what) for f in found] == [("severe", True)]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ("", "no voxel size"),
        ("spacings: nan nan nan\n", "no voxel size"),
        ("spacings: 0 3 4\n", "no usable voxel size"),
        ("spacings: 2 3\n", "expected 3"),
        ("spacings: inf 3 4\n", "expected 3 number"),
        ('spacings: 2 3 4\nunits: "inch" "inch" "inch"\n', "'inch'"),
        ("spacings: 0.002 0.003 0.004\n", "smaller than a patient"),
        ("spacings: 2000 3000 4000\n", "larger than a patient"),
        ("space: LPS\nspace directions: (2,0,1) (0,3,0) (0,0,4)\n", "sheared"),
        ("space: LPS\nspace directions: (2,0,0) (2,0,0) (0,0,4)\n", "no usable voxel size"),
        ("space: LPS\nspace directions: (2,0) (0,3) (0,0)\n", "expected 3 number"),
        ("space: upside-down\n" + DIRECTIONS, "upside-down"),
        ("spacings: 2 3 4\nSpacings: 1 1 1\n", "twice"),
        ("spacings: 2 3 4\nspacing: 1 1 1\n", "does not know"),
        ("spacings: 2 3 4\r\n", "line ends"),
        ("spacings: 2 3 4\nlabels: \0\n", "NUL"),
        ("spacings: 2 3 4\nbyte skip: 9\n", "byte skip"),
        ("spacings: 2 3 4\nencoding: ascii\n", "twice"),
        ("spacings: 2 3 4\n# " + "x" * (1 << 20) + "\n", "more than 1 MB"),
    ],
)
def test_what_a_header_may_not_say_is_refused_by_name(tmp_path, fields, why):
    with pytest.raises(InputError, match=why):
        read(tmp_path, fields)


def test_windows_line_ends_comments_and_keys_of_the_users_own_are_read(tmp_path):
    stack = read(tmp_path, f"space: LPS\n{DIRECTIONS}# a: comment\ndata file:=mine\n", end="\r\n")
    assert np.array_equal(stack.voxels, VOXELS)


def test_an_axis_of_colour_or_time_is_refused_and_one_of_length_1_is_read(tmp_path):
    assert read(tmp_path, "spacings: 2 3 4 nan\nkinds: domain domain domain list\n", sizes="4 5 6 1").voxels.shape == (
        6,
        5,
        4,
    )
    with pytest.raises(InputError, match="2 volumes"):
        read(tmp_path, "spacings: 2 3 4 nan\nkinds: domain domain domain list\n", sizes="4 5 3 2")
    with pytest.raises(InputError, match="4 values a voxel"):
        read(tmp_path, "spacings: nan 2 3 4\nkinds: vector domain domain domain\n", sizes="4 5 3 2")
