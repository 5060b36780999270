"""Quality of an MRI as it came: what may spoil a severity, in plain sentences."""

from __future__ import annotations

import numpy as np

from cmssd_core.types import Affine, BoolArray, Finding, FloatArray, Level, Volume
from cmssd_core.volume.contrasts import CONTRASTS, HU, MR, SUV, Contrast
from cmssd_core.volume.orient import radiological

_THICK_MM = 6.0
_ANISOTROPY = 4.0
_FIELD_MM = 60.0
#: Noise is read from about as many slices; more would tell nothing new.
_NOISE_SLICES = 12
#: The range of a CT that lies wholly above water: a rescale intercept left out, not a piece cut from bone.
_HU_RANGE = 2000.0
#: More than any tissue takes up; a PET in Bq/mL or counts lies far above.
_SUV_HIGHEST = 100.0


def single_slice(contrast: str) -> Finding:
    """The remark on a scan of one slice; reader and check say it in the same words, so that it is said once."""
    return Finding(
        "warning",
        "has one slice only: severity is then a ratio of areas in that slice, not of the tumour",
        f"mri {contrast}",
    )


def check(volume: Volume) -> tuple[Finding, ...]:
    """Findings on a raw Volume (before preparing): grid, field of view, noise, clipping, cropping, uneven slices.

    Slices are counted from 1 along the slice axis of the radiological layout. Missing slices are the reader's finding.
    """
    shape = volume.voxels.shape[1], volume.voxels.shape[2], volume.voxels.shape[3]
    layout = radiological(volume.affine, shape)
    findings = list(_grid(volume, layout.affine(volume.affine, shape), layout.shape(shape)))
    for contrast, voxels in zip(volume.contrasts, volume.voxels, strict=True):
        findings.extend(_contrast(contrast, layout.apply(voxels)))
    return tuple(findings)


def _grid(volume: Volume, affine: Affine, shape: tuple[int, int, int]) -> list[Finding]:
    column_mm, row_mm, slice_mm = (float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    slices, rows, columns = shape
    found: list[Finding] = []
    if slices == 1:
        found.append(single_slice(volume.contrasts[0]))
    pixel_mm = max(column_mm, row_mm)
    if slice_mm > _THICK_MM:
        found.append(
            Finding(
                "warning",
                f"slices are {slice_mm:.1f} mm apart (over {_THICK_MM:.0f} mm): a small lesion may lie between",
                "mri",
            )
        )
    elif slices > 1 and slice_mm > _ANISOTROPY * pixel_mm:
        found.append(
            Finding(
                "info",
                f"slices are {slice_mm / pixel_mm:.1f} times as far apart as pixels: volumes are coarse along them",
                "mri",
            )
        )
    field = min(columns * column_mm, rows * row_mm)
    if field < _FIELD_MM:
        found.append(
            Finding(
                "warning",
                f"the field of view is {field:.0f} mm (under {_FIELD_MM:.0f} mm): bone and tumour may be cut off",
                "mri",
            )
        )
    if pixel_mm > 2:
        found.append(
            Finding("warning", f"pixels of {pixel_mm:.1f} mm are coarse for a tumour's border (over 2 mm)", "mri")
        )
    return found


def _contrast(contrast: str, voxels: FloatArray) -> list[Finding]:
    where = f"mri {contrast}"
    row = CONTRASTS[contrast]
    found: list[Finding] = []
    low, high = float(voxels.min()), float(voxels.max())
    sample = voxels.ravel()[:: max(1, voxels.size // 200_000)]
    values = np.unique(sample)
    if len(values) <= 8 and np.array_equal(values, np.rint(values)):
        return [
            Finding("severe", f"holds only {len(values)} different values: it looks like a mask, not a scan", where)
        ]
    empty = float(np.mean(voxels == low))
    # Air in a measured unit has one value by itself.
    if empty > 0.7 and (row.air is None or low > row.air):
        found.append(
            Finding(
                "warning",
                f"{100 * empty:.0f} % of the voxels have one and the same lowest value: cropped or masked",
                where,
            )
        )
    clipped = float(np.mean(voxels == high))
    if clipped > 0.005:
        found.append(Finding("warning", f"{100 * clipped:.1f} % of the voxels are clipped at the highest value", where))
    doubt = _unit_doubt(row, sample)
    if doubt is not None:
        found.append(Finding("severe", doubt, where))
    if row.dicom != MR:
        return found
    body = voxels > low + 0.15 * (float(np.percentile(sample, 99)) - low)
    ratio = _signal_to_noise(voxels, body)
    if not row.quantitative and ratio is not None and ratio < 8:
        level: Level = "severe" if ratio < 4 else "warning"
        found.append(Finding(level, f"is noisy: the signal is {ratio:.1f} times the noise (8 or more is usual)", where))
    jumps = _jumps(voxels, body)
    if jumps:
        which = ", ".join(str(i + 1) for i in jumps[:6]) + (" and more" if len(jumps) > 6 else "")
        found.append(
            Finding(
                "warning",
                "brightness jumps by more than a third against both neighbours: spike, motion or mixed series",
                f"{where}, slice {which}",
            )
        )
    return found


def _unit_doubt(row: Contrast, values: FloatArray) -> str | None:
    """Why the values cannot be in the contrast's unit; None where they may be."""
    low, high, most = (float(v) for v in (values.min(), values.max(), np.percentile(values, 99)))
    if row.unit == HU and low >= 0 and (high <= 1 or high > _HU_RANGE):
        return (
            f"has values from {low:.4g} to {high:.4g} and none below 0, where air (-1000) and fat (-100) are in "
            f"Hounsfield units: a model's window of {_window(row)} does not fit them; export the CT in Hounsfield units"
        )
    if row.unit == SUV and most > _SUV_HIGHEST:
        return (
            f"has values up to {most:.4g}, which no uptake reaches: they are not SUV (Bq/mL or counts?) and a model's "
            f"window of {_window(row)} does not fit them; give the PET in SUV"
        )
    return None


def _window(row: Contrast) -> str:
    low, high = row.limits or (float("-inf"), float("inf"))
    return f"{low:g} to {high:g} {row.unit}"


def _signal_to_noise(voxels: FloatArray, body: BoolArray) -> float | None:
    """Immerkaer's noise from second differences in the slice, by the median so that edges count little."""
    if min(voxels.shape[1:]) < 8:
        return None
    every = -(-len(voxels) // _NOISE_SLICES)
    v, body = voxels[::every], body[::every]
    residual = (
        v[:, :-2, :-2] - 2 * v[:, :-2, 1:-1] + v[:, :-2, 2:]
        - 2 * v[:, 1:-1, :-2] + 4 * v[:, 1:-1, 1:-1] - 2 * v[:, 1:-1, 2:]
        + v[:, 2:, :-2] - 2 * v[:, 2:, 1:-1] + v[:, 2:, 2:]
    )  # fmt: skip
    inside = body[:, 1:-1, 1:-1]
    if np.count_nonzero(inside) < 500:
        return None
    # The kernel multiplies independent noise's deviation by 6; 0.6745 is the median of a half-normal.
    noise = float(np.median(np.abs(residual[inside]))) / 0.6745 / 6
    signal = float(v[body].mean() - min(0.0, float(v.min())))
    return None if noise <= 0 else signal / noise


def _jumps(voxels: FloatArray, body: BoolArray) -> list[int]:
    if len(voxels) < 4:
        return []
    area = body.reshape(len(body), -1).sum(1)
    mean = np.array([float(v[b].mean()) if n > 200 else np.nan for v, b, n in zip(voxels, body, area, strict=True)])
    with np.errstate(invalid="ignore", divide="ignore"):
        step = np.log(np.where(mean > 0, mean, np.nan))
    found = []
    for i in range(1, len(step) - 1):
        before, after = step[i] - step[i - 1], step[i] - step[i + 1]
        alike = abs(step[i + 1] - step[i - 1]) < 0.15
        if alike and min(abs(before), abs(after)) > np.log(4 / 3) and np.sign(before) == np.sign(after):
            found.append(i)
    return found
