"""N4: the slow brightness drift of a coil is found on a shrunk image and divided out at full resolution.

Tustison et al., N4ITK: improved N3 bias correction, IEEE TMI 29(6), 2010.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from cmssd_core.mri.body import blocks
from cmssd_core.types import BoolArray, FloatArray


@dataclass(frozen=True, kw_only=True)
class N4Settings:
    """shrink_mm: voxel size the field is fitted at; levels, iterations: as in N4ITK; threshold: its convergence."""

    shrink_mm: float = 4.0
    iterations: tuple[int, ...] = (50, 50, 50, 50)
    threshold: float = 0.001


def corrected(
    voxels: FloatArray, mask: BoolArray, spacing_mm: tuple[float, float, float], *, settings: N4Settings
) -> tuple[FloatArray, str]:
    """`voxels` (z, y, x) divided by the bias field fitted inside `mask`, and the convergence in words.

    spacing_mm in (x, y, z). The field has the mean logarithm 0 inside the mask. Left as it came, and said so, where
    the mask is too small to fit a field.
    """
    steps = [max(1, round(settings.shrink_mm / spacing)) for spacing in reversed(spacing_mm)]
    steps = [min(step, max(1, n // 4)) for step, n in zip(steps, voxels.shape, strict=True)]
    small = blocks(voxels, steps)
    inside = (blocks(mask.astype(np.float32), steps) > 0.5) & (small > 0)
    if np.count_nonzero(inside) < 64 or min(small.shape[1:]) < 4 or float(small[inside].std()) == 0:
        return voxels, "bias field not corrected: too few voxels of body"
    single = small.shape[0] == 1
    # N4 fits a field in space; one slice is doubled so that it has a third dimension to be constant in.
    image = sitk.GetImageFromArray(np.repeat(small, 4, axis=0) if single else small)
    image.SetSpacing([step * spacing for step, spacing in zip(reversed(steps), spacing_mm, strict=True)])
    marked = sitk.GetImageFromArray((np.repeat(inside, 4, axis=0) if single else inside).astype(np.uint8))
    marked.CopyInformation(image)
    fitter = sitk.N4BiasFieldCorrectionImageFilter()
    fitter.SetMaximumNumberOfIterations(list(settings.iterations))
    fitter.SetConvergenceThreshold(settings.threshold)
    fitter.Execute(image, marked)
    field = sitk.GetArrayFromImage(fitter.GetLogBiasFieldAsImage(image))[: small.shape[0]]
    field = field - float(field[inside].mean())
    log_bias = _enlarged(field.astype(np.float32), steps, voxels.shape)
    np.exp(-log_bias, out=log_bias)
    log_bias *= voxels
    span = float(np.exp(np.ptp(field[inside])))
    return log_bias, (
        f"bias field corrected by N4 on {' x '.join(str(n) for n in reversed(small.shape))} voxels, "
        f"convergence {fitter.GetCurrentConvergenceMeasurement():.4f} after {fitter.GetElapsedIterations()} iterations "
        f"of the last level; brightest to darkest {span:.2f}"
    )


def _enlarged(field: FloatArray, steps: list[int], shape: tuple[int, ...]) -> FloatArray:
    """Linear interpolation between block centres back to full size, level beyond the outermost centres."""
    out = field
    for axis, (step, n) in enumerate(zip(steps, shape, strict=True)):
        if step == 1:
            continue
        at = np.clip((np.arange(n) + 0.5) / step - 0.5, 0, out.shape[axis] - 1)
        low = np.minimum(at.astype(int), max(out.shape[axis] - 2, 0))
        share = (at - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        lower = np.take(out, low, axis=axis)
        upper = np.take(out, np.minimum(low + 1, out.shape[axis] - 1), axis=axis)
        out = lower + (upper - lower) * share
    return np.ascontiguousarray(out, dtype=np.float32)
