"""Between our grids and SimpleITK's: arrays (z, y, x) with RAS+ affines here, images in LPS+ there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Affine

if TYPE_CHECKING:
    import SimpleITK as sitk

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def to_image(zyx: npt.NDArray[Any], affine: Affine) -> sitk.Image:
    """An array (z, y, x) with its voxel (x, y, z) -> RAS+ mm affine as an image."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(zyx)
    lps = _FLIP @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image
