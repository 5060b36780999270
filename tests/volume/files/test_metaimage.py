"""Laws of MetaImage headers: geometry is said, said once, and turned into RAS."""

from __future__ import annotations

import numpy as np
import pytest

from cmssd_core.types import InputError
from cmssd_core.volume.image import read_image

VOXELS = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(6, 5, 4)
MATRIX = "TransformMatrix = 1 0 0 0 1 0 0 0 1\n"
PLACE = "Offset = 10 20 30\n"
STEPS = "ElementSpacing = 2 3 4\n"


def read(tmp_path, fields, *, kind="MET_UCHAR", size="4 5 6"):
    text = f"ObjectType = Image\nNDims = 3\n{fields}DimSize = {size}\nElementType = {kind}\nElementDataFile = LOCAL\n"
    path = tmp_path / "t1.mha"
    path.write_bytes(text.encode() + VOXELS.tobytes())
    return read_image(path, contrast="t1", limit_mb=64)


def test_a_whole_header_is_read_without_remark(tmp_path):
    stack = read(tmp_path, MATRIX + PLACE + STEPS)
    assert np.allclose(stack.affine, [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]])
    assert np.array_equal(stack.voxels, VOXELS)
    assert stack.findings == ()


@pytest.mark.parametrize(
    ("fields", "level", "what"),
    [
        (PLACE + STEPS, "warning", "no orientation"),
        (PLACE + STEPS + "AnatomicalOrientation = ???\n", "warning", "no orientation"),
        (MATRIX + STEPS, "warning", "no position"),
        (MATRIX + PLACE + STEPS + "AnatomicalOrientation = LPI\n", "severe", "AnatomicalOrientation LPI"),
        (PLACE + STEPS + "AnatomicalOrientation = LAI\n", "severe", "RAI is used"),
        (MATRIX + PLACE + STEPS + "ElementSize = 1 1 1\n", "severe", "2 x 3 x 4 mm by ElementSpacing"),
        (MATRIX + "Offset = 1 2 3\nElementSpacing = .2 .3 .4\nDistanceUnits = cm\n", "info", "converted to mm"),
    ],
)
def test_what_is_left_out_or_said_twice_is_remarked(tmp_path, fields, level, what):
    stack = read(tmp_path, fields)
    assert [(f.level, what in f.what) for f in stack.findings] == [(level, True)]
    assert np.allclose(stack.spacing_mm, (2, 3, 4))


def test_an_orientation_in_letters_alone_that_agrees_is_enough(tmp_path):
    assert read(tmp_path, PLACE + STEPS + "AnatomicalOrientation = RAI\n").findings == ()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (MATRIX + PLACE, "no voxel size"),
        (MATRIX + PLACE + "ElementSpacing = 0 3 4\n", "no usable voxel size"),
        (MATRIX + PLACE + "ElementSpacing = nan 3 4\n", "expected 3 number"),
        (MATRIX + PLACE + STEPS + "elementspacing = 1 1 1\n", "twice"),
        (PLACE + STEPS + "Position = 1 1 1\n", "twice"),
        (PLACE + STEPS + "TransformMatrix = 1 0.3 0 0 1 0 0 0 1\n", "length 1"),
        (PLACE + STEPS + "TransformMatrix = 1 0 0 0.6 0.8 0 0 0 1\n", "sheared"),
        (MATRIX + PLACE + "ElementSpacing = .002 .003 .004\n", "smaller than a patient"),
        (MATRIX + PLACE + STEPS + "BinaryData = False\n", "as text"),
        (MATRIX + PLACE + STEPS + "HeaderSize = 90\n", "HeaderSize"),
        (MATRIX + PLACE + STEPS + "ElementToIntensityFunctionSlope = 2\n", "scale"),
        (MATRIX + PLACE + STEPS + "ElementNumberOfChannels = 3\n", "3 values a voxel"),
        (MATRIX + PLACE + STEPS + "Name = a\0b\n", "NUL"),
    ],
)
def test_what_a_header_may_not_say_is_refused_by_name(tmp_path, fields, why):
    with pytest.raises(InputError, match=why):
        read(tmp_path, fields)
