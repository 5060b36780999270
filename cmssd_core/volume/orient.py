"""Radiological layout: a scan's slices as a radiologist looks at them, without touching a voxel."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Affine

Plane = Literal["axial", "coronal", "sagittal"]

_ISOTROPIC = 1.2
#: For the world axis the slices are stacked along: the plane, then (world axis, sign in RAS+) along which the index
#: grows for slice, row and column, then the letters at the screen's left, right, top and bottom.
_LAYOUTS: dict[int, tuple[Plane, tuple[tuple[int, int], ...], tuple[str, str, str, str]]] = {
    2: ("axial", ((2, 1), (1, -1), (0, -1)), ("R", "L", "A", "P")),
    1: ("coronal", ((1, 1), (2, -1), (0, -1)), ("R", "L", "S", "I")),
    0: ("sagittal", ((0, 1), (2, -1), (1, -1)), ("A", "P", "S", "I")),
}


@dataclass(frozen=True)
class Orientation:
    """A permutation and flips from a source array (..., z, y, x) to (..., slice, row, column) and back.

    axes: for slice, row and column the source axis (0 = z, 1 = y, 2 = x) it comes from. flips: whether it is reversed.
    edges: the letters at the screen's left, right, top and bottom.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    plane: Plane
    edges: tuple[str, str, str, str]

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(..., z, y, x) -> (..., slice, row, column), contiguous."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return np.ascontiguousarray(moved[(..., *self._steps())])

    def invert(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(..., slice, row, column) -> (..., z, y, x), contiguous: undoes `apply`."""
        lead = array.ndim - 3
        straight = array[(..., *self._steps())]
        back = np.argsort(self.axes)
        return np.ascontiguousarray(straight.transpose(*range(lead), *(lead + int(axis) for axis in back)))

    def shape(self, shape_zyx: tuple[int, int, int]) -> tuple[int, int, int]:
        """(slices, rows, columns) of a source of shape (z, y, x)."""
        slices, rows, columns = (shape_zyx[axis] for axis in self.axes)
        return slices, rows, columns

    def affine(self, affine: Affine, shape_zyx: tuple[int, int, int]) -> Affine:
        """The affine of the applied array: voxel (column, row, slice, 1) -> RAS+ mm, from the source's affine."""
        to_source = np.zeros((4, 4))
        to_source[3, 3] = 1
        for new, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            # Arrays count z, y, x and affines x, y, z, in the source as in the layout.
            to_source[2 - axis, 2 - new] = -1 if flip else 1
            if flip:
                to_source[2 - axis, 3] = shape_zyx[axis] - 1
        moved: Affine = affine @ to_source
        return moved

    def _steps(self) -> tuple[slice, slice, slice]:
        first, second, third = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return first, second, third


def radiological(affine: Affine, shape_zyx: tuple[int, int, int]) -> Orientation:
    """The layout of a scan with this voxel (x, y, z) -> RAS+ affine.

    The slices are stacked along the one axis of length 1, else along the largest spacing; of axes within 20 % of the
    largest, along the one nearest to superior-inferior, so isotropic scans are shown axially. Axial rows run A to P,
    coronal and sagittal rows S to I; columns run R to L (the patient's right on the screen's left), sagittal ones A to
    P; slices count towards R, A or S.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / spacing
    # One world axis for each voxel axis, the best of all six: greedy choice can fail on oblique scans.
    world = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[axis, i]) for i, axis in enumerate(axes)))
    single = [i for i in range(3) if shape_zyx[2 - i] == 1]
    thick = single if len(single) == 1 else [i for i in range(3) if spacing[i] * _ISOTROPIC >= spacing.max()]
    stacked = max(thick, key=lambda i: (abs(cosines[2, i]), spacing[i]))
    plane, wanted, edges = _LAYOUTS[world[stacked]]
    voxel_axes = [world.index(axis) for axis, _ in wanted]
    flips = [sign * cosines[axis, voxel] < 0 for (axis, sign), voxel in zip(wanted, voxel_axes, strict=True)]
    return Orientation(
        axes=(2 - voxel_axes[0], 2 - voxel_axes[1], 2 - voxel_axes[2]),
        flips=(bool(flips[0]), bool(flips[1]), bool(flips[2])),
        plane=plane,
        edges=edges,
    )
