"""Where the biopsy was taken, and whether that lies on the MRI."""

from __future__ import annotations

import numpy as np

from cmssd_core.types import Case, Slide, Volume

Site = tuple[float, float, float]


def site_voxel(volume: Volume, site_mm: Site) -> tuple[float, float, float]:
    """The biopsy site, RAS+ mm, as a continuous (z, y, x) index of the volume."""
    x, y, z = np.linalg.solve(volume.affine[:3, :3], np.asarray(site_mm) - volume.affine[:3, 3])
    return float(z), float(y), float(x)


def is_registered(case: Case) -> bool:
    """Whether the slide has a place on the MRI: a biopsy site that lies inside the scan as it came."""
    volume, slide = case.inputs.get("mri"), case.inputs.get("he")
    if not isinstance(volume, Volume) or not isinstance(slide, Slide) or slide.site_mm is None:
        return False
    voxel = site_voxel(volume, slide.site_mm)
    return all(-0.5 <= v <= n - 0.5 for v, n in zip(voxel, volume.voxels.shape[1:], strict=True))
