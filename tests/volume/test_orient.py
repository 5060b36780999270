"""Laws of the radiological layout."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmssd_core.volume.orient import Orientation, radiological

AXES = st.permutations([0, 1, 2])
SIGNS = st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)
SPACINGS = st.tuples(*[st.floats(0.3, 9.0)] * 3)
SHAPES = st.tuples(*[st.integers(2, 6)] * 3)


def affine_of(axes, signs, spacing, tilt_deg=0.0, origin=(3.0, -7.0, 11.0)):
    cosines = np.zeros((3, 3))
    for voxel, world in enumerate(axes):
        cosines[world, voxel] = signs[voxel]
    a = np.radians(tilt_deg)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tip @ cosines * np.array(spacing)
    affine[:3, 3] = origin
    return affine


@given(AXES, SIGNS, SPACINGS, SHAPES, st.floats(-20, 20))
def test_invert_undoes_apply_on_any_leading_axes(axes, signs, spacing, shape, tilt):
    layout = radiological(affine_of(axes, signs, spacing, tilt), shape)
    array = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    applied = layout.apply(array)
    assert applied.shape == (2, *layout.shape(shape))
    assert applied.flags.c_contiguous
    assert np.array_equal(layout.invert(applied), array)


@given(AXES, SIGNS, SPACINGS, SHAPES, st.floats(-20, 20))
def test_every_voxel_keeps_its_place_in_the_patient(axes, signs, spacing, shape, tilt):
    affine = affine_of(axes, signs, spacing, tilt)
    z, y, x = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    index = np.stack([x, y, z, np.ones_like(x)])
    world = np.einsum("ij,jzyx->izyx", affine, index)[:3]
    layout = radiological(affine, shape)
    s, r, c = np.meshgrid(*[np.arange(n) for n in layout.shape(shape)], indexing="ij")
    moved = np.einsum("ij,jsrc->isrc", layout.affine(affine, shape), np.stack([c, r, s, np.ones_like(c)]))[:3]
    assert np.allclose(layout.apply(world), moved, atol=1e-9)


@given(AXES, SIGNS, SPACINGS, SHAPES, st.floats(-20, 20))
def test_screen_edges_are_those_nibabel_names(axes, signs, spacing, shape, tilt):
    affine = affine_of(axes, signs, spacing, tilt)
    layout = radiological(affine, shape)
    column, row, stacked = nib.aff2axcodes(layout.affine(affine, shape))
    left, right, top, bottom = layout.edges
    assert (column, row) == (right, bottom)
    assert {left, right} in ({"R", "L"}, {"A", "P"})
    assert {top, bottom} in ({"A", "P"}, {"S", "I"})
    assert stacked == {"axial": "S", "coronal": "A", "sagittal": "R"}[layout.plane]


def test_layout_equals_nibabels_reorientation():
    affine = affine_of([1, 2, 0], [-1, 1, -1], (0.5, 0.5, 4.0), 8.0)
    array = np.random.default_rng(0).normal(size=(5, 7, 6))
    layout = radiological(affine, array.shape)
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine)
    codes = nib.orientations.axcodes2ornt(nib.aff2axcodes(layout.affine(affine, array.shape)))
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), codes))
    assert np.array_equal(np.asarray(turned.dataobj).transpose(2, 1, 0), layout.apply(array))
    assert np.allclose(turned.affine, layout.affine(affine, array.shape))


@pytest.mark.parametrize(
    ("axes", "plane", "edges"),
    [
        ([0, 1, 2], "axial", ("R", "L", "A", "P")),
        ([0, 2, 1], "coronal", ("R", "L", "S", "I")),
        ([1, 2, 0], "sagittal", ("A", "P", "S", "I")),
    ],
)
def test_thick_slices_say_the_plane(axes, plane, edges):
    layout = radiological(affine_of(axes, [1, 1, 1], (0.7, 0.7, 5.0)), (10, 20, 30))
    assert (layout.plane, layout.edges) == (plane, edges)


@given(AXES, SIGNS)
def test_isotropic_scans_are_axial(axes, signs):
    layout = radiological(affine_of(axes, signs, (1.0, 1.15, 1.1)), (4, 5, 6))
    assert layout.plane == "axial"


def test_one_slice_is_looked_at_through_its_face():
    affine = affine_of([0, 1, 2], [1, 1, 1], (3.0, 3.0, 0.8))
    assert radiological(affine, (1, 64, 64)).plane == "axial"


def test_patients_right_is_on_the_screens_left():
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    voxels = np.zeros((2, 4, 4))
    voxels[:, :, 3] = 1  # the patient's right: x grows to R in RAS+
    layout = radiological(affine, voxels.shape)
    right = layout.apply(np.arange(4).reshape(1, 1, 4) * np.ones((2, 4, 4)))
    # RAS+ x grows towards the patient's right hand side only in name: R is +x, so +x must come first on screen.
    assert right[0, 0, 0] == 3
    assert isinstance(layout, Orientation)
