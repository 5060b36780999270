"""Preparing a volume: a model's contrasts on one scale, in radiological slices of one size; and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Affine, BoolArray, Finding, FloatArray, InputError, Volume, frozen
from cmssd_core.volume.body import body_of
from cmssd_core.volume.contrasts import CONTRASTS, Contrast, contrast_label
from cmssd_core.volume.n4 import N4Settings, correct_bias
from cmssd_core.volume.orient import radiological


@dataclass(frozen=True, kw_only=True)
class VolumeSettings:
    """contrasts: what the model reads, in its order. size_px: rows and columns of a prepared slice. spacing_mm: its
    finest pixel; larger scans get larger pixels.

    n4: whether the bias field is corrected where a contrast has one; bias: how.
    """

    contrasts: tuple[str, ...]
    size_px: int = 256
    spacing_mm: float = 1.0
    n4: bool = True
    bias: N4Settings = field(default_factory=N4Settings)


def prepare(volume: Volume, *, settings: VolumeSettings) -> tuple[Volume, tuple[Finding, ...], tuple[str, ...]]:
    """What a model reads of a raw Volume: float32 (contrast, slice, size_px, size_px), findings, steps.

    Contrasts are those of settings.contrasts that the volume has, in that order; one that it lacks is left out. Each is
    scaled by its row of CONTRASTS: z-scores inside the body, or -1 to 1 over the row's window. Slices and screen edges
    as in `orient.radiological`; the slices themselves are those of the scan. Pixels are square, of max(spacing_mm,
    field of view / size_px); beyond the scan stands its air. The affine maps the prepared voxel (column, row, slice) to
    RAS+ mm. Raises InputError where none of settings.contrasts is there.
    """
    names = tuple(name for name in settings.contrasts if name in volume.contrasts)
    if not names:
        came, read = (", ".join(map(contrast_label, each)) for each in (volume.contrasts, settings.contrasts))
        raise InputError(f"the examination holds {came} and the model reads {read}; give at least one of {read}", "mri")
    shape = _shape(volume)
    layout = radiological(volume.affine, shape)
    affine = layout.affine(volume.affine, shape)
    grid = _square_grid(affine, layout.shape(shape), settings)
    body, body_words = body_of(volume)
    findings: list[Finding] = []
    steps: list[str] = []
    out = np.empty((len(names), layout.shape(shape)[0], settings.size_px, settings.size_px), dtype=np.float32)
    for slot, name in enumerate(names):
        row, voxels = CONTRASTS[name], volume.voxels[volume.contrasts.index(name)]
        inside = _covered(voxels, body)
        if settings.n4 and row.bias_corrected:
            voxels, words = correct_bias(voxels, inside, volume.spacing_mm, settings=settings.bias)
            steps.append(f"{name}: {words}")
            if "not corrected" in words:
                findings.append(Finding("warning", words, f"mri {name}"))
        if row.limits is not None:
            out[slot] = _windowed(layout.apply(voxels), grid, row)
            low, high = row.limits
            steps.append(
                f"{name}: {low:g} to {high:g} {row.unit} scaled to -1 to 1; "
                f"{100 * float(np.mean(voxels[inside] > high)):.2g} % of the body{body_words} lies above"
            )
            continue
        mean, deviation = _moments(voxels, inside)
        steps.append(
            f"{name}: z-score inside the body ({100 * inside.mean():.0f} % of the voxels{body_words}), "
            f"mean {mean:.4g}, deviation {deviation:.4g}"
        )
        scores = layout.apply(voxels)
        scores = (scores - np.float32(mean)) / np.float32(deviation)
        # Half a percent from below: the very lowest voxel is a spike more often than air.
        air = float(np.percentile(scores.ravel()[:: max(1, scores.size // 100_000)], 0.5))
        out[slot] = _resampled(scores, grid, air)
    steps.append(
        f"laid out in {layout.plane} slices of {settings.size_px} x {settings.size_px} pixels of {grid.pixel_mm:.3g} mm"
    )
    prepared = Volume(voxels=frozen(out), affine=frozen(grid.affine), contrasts=names)
    return prepared, tuple(findings), tuple(steps)


def onto(map_zyx: FloatArray, affine: Affine, *, like: Volume) -> FloatArray:
    """A map on a prepared grid, float32 (slice, y, x) with its affine, on the grid of the raw Volume it came from.

    float32 (z, y, x), linear in the slice; slices are only put back in their order. Zero outside the map. Raises
    ValueError where `affine` is no grid `prepare` makes of `like`.
    """
    shape = _shape(like)
    layout = radiological(like.affine, shape)
    slices, rows, columns = layout.shape(shape)
    way = np.linalg.inv(affine) @ layout.affine(like.affine, shape)
    scale = np.diag(way)[:3]
    straight = np.abs(way[:3, :3] - np.diag(scale)).max() < 1e-3 and abs(scale[2] - 1) < 1e-3 and abs(way[2, 3]) < 1e-2
    if not straight or map_zyx.shape[0] != slices:
        raise ValueError(
            f"a map goes back onto the scan it was prepared from; got a map of {map_zyx.shape} whose affine does not "
            f"share the {slices} slices of that scan"
        )
    down = _linear(scale[1] * np.arange(rows) + way[1, 3], map_zyx.shape[1], reach=max(0.5, scale[1] / 2))
    across = _linear(scale[0] * np.arange(columns) + way[0, 3], map_zyx.shape[2], reach=max(0.5, scale[0] / 2))
    back = np.matmul(np.matmul(down, map_zyx.astype(np.float32, copy=False)), across.T)
    return layout.invert(back.astype(np.float32, copy=False))


@dataclass(frozen=True, eq=False)
class _Grid:
    """The square grid of the prepared slices: weights from source rows and columns to pixels, and its affine."""

    down: FloatArray
    across: FloatArray
    affine: Affine
    pixel_mm: float


def _shape(volume: Volume) -> tuple[int, int, int]:
    _, z, y, x = volume.voxels.shape
    return z, y, x


def _square_grid(affine: Affine, shape: tuple[int, int, int], settings: VolumeSettings) -> _Grid:
    _, rows, columns = shape
    column_mm, row_mm = (float(s) for s in np.linalg.norm(affine[:3, :2], axis=0))
    pixel = max(settings.spacing_mm, rows * row_mm / settings.size_px, columns * column_mm / settings.size_px)
    starts = []
    weights = []
    for count, source_mm in ((rows, row_mm), (columns, column_mm)):
        ratio = pixel / source_mm
        start = (count - 1) / 2 - ratio * (settings.size_px - 1) / 2
        starts.append(start)
        weights.append(_tents(start + ratio * np.arange(settings.size_px), count, width=max(1.0, ratio)))
    to_source = np.eye(4)
    to_source[0, 0], to_source[1, 1] = pixel / column_mm, pixel / row_mm
    to_source[0, 3], to_source[1, 3] = starts[1], starts[0]
    return _Grid(down=weights[0], across=weights[1], affine=affine @ to_source, pixel_mm=pixel)


def _tents(at: npt.NDArray[np.floating[Any]], count: int, *, width: float) -> FloatArray:
    """Weights (point, source) of a tent `width` source pixels to each side, summing to 1; rows of 0 off the source.

    A tent of the coarser of the two pixels is linear interpolation upwards and an antialias filter downwards.
    """
    weights = np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(count)[None]) / width)
    # Half a source pixel beyond the outermost centre still belongs to the scan: it takes the edge's value.
    edge = np.clip(at, 0, count - 1)
    near = np.maximum(0.0, 1 - np.abs(edge[:, None] - np.arange(count)[None]) / width)
    weights = np.where(weights.sum(1, keepdims=True) > 0.5, weights, near)
    weights /= weights.sum(1, keepdims=True)
    weights[(at < -0.5) | (at > count - 0.5)] = 0
    tents: FloatArray = weights.astype(np.float32)
    return tents


def _linear(at: npt.NDArray[np.float64], count: int, *, reach: float) -> FloatArray:
    """Weights (point, source) of linear interpolation, the edge's value `reach` pixels beyond it, then 0."""
    inside = np.clip(at, 0, count - 1)
    weights = np.maximum(0.0, 1 - np.abs(inside[:, None] - np.arange(count)[None]))
    weights[(at < -reach - 1e-6) | (at > count - 1 + reach + 1e-6)] = 0
    linear: FloatArray = weights.astype(np.float32)
    return linear


def _resampled(scores: FloatArray, grid: _Grid, air: float) -> FloatArray:
    moved = np.matmul(np.matmul(grid.down, scores), grid.across.T)
    moved[:, grid.down.sum(1) == 0, :] = air
    moved[:, :, grid.across.sum(1) == 0] = air
    resampled: FloatArray = moved
    return resampled


def _windowed(voxels: FloatArray, grid: _Grid, row: Contrast) -> FloatArray:
    """A contrast with a unit on the grid, -1 to 1 over its window."""
    assert row.limits is not None
    assert row.air is not None
    low, high = row.limits
    # Resampled before it is cut off: half a voxel of bone and half of fat measure their mean, not that of the window.
    values = _resampled(voxels, grid, row.air)
    scaled: FloatArray = np.clip((values - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1), -1, 1)
    return scaled


def _covered(voxels: FloatArray, body: BoolArray) -> BoolArray:
    """The body without the fill beyond the edge of a contrast with a smaller field of view."""
    low = voxels.min()
    filled = voxels == low
    inside = body & ~filled if float(filled.mean()) > 0.01 else body
    return inside if np.count_nonzero(inside) >= 64 else np.ones_like(body)


def _moments(voxels: FloatArray, inside: BoolArray) -> tuple[float, float]:
    values = voxels[inside]
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if not deviation > 0:
        raise InputError("the MRI is constant inside the body; expected an image with contrast")
    return mean, deviation
