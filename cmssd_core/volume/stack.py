"""Stacks: images on grids of their own, joined into one Volume on the finest grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmssd_core.types import Affine, Finding, FloatArray, InputError, Volume, frozen
from cmssd_core.volume.contrasts import CONTRASTS, MR
from cmssd_core.volume.files.geometry import usable
from cmssd_core.volume.itk import to_image
from cmssd_core.volume.origin import Origin, of_two_people, told_apart


@dataclass(frozen=True, eq=False)
class Stack:
    """One contrast on its own grid: voxels float32 (z, y, x), affine voxel (x, y, z) -> RAS+ mm.

    digest: sha256 of the bytes it came from. origin and frame_of_reference are compared, never shown; None = not said.
    """

    contrast: str
    voxels: FloatArray
    affine: Affine
    digest: str
    findings: tuple[Finding, ...] = ()
    origin: Origin | None = None
    frame_of_reference: str | None = None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along (x, y, z)."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def sound(voxels: FloatArray, affine: Affine, *, name: str) -> None:
    """Raises InputError for what no image of a patient is: empty, constant, not finite, or without a real grid."""
    if voxels.ndim != 3 or voxels.size == 0:
        raise InputError(f"'{name}' holds no voxels (size {_size(voxels)}); expected a 3-D image")
    broken = int(voxels.size - np.count_nonzero(np.isfinite(voxels)))
    if broken:
        raise InputError(
            f"'{name}' holds {broken} voxels that are no finite numbers (NaN or infinite); export it again"
        )
    if float(voxels.min()) == float(voxels.max()):
        raise InputError(f"'{name}' is constant: every voxel is {float(voxels.flat[0]):g}; expected an image")
    usable(affine, voxels.shape[::-1], name=name)


def join(stacks: Sequence[Stack]) -> tuple[Volume, tuple[Finding, ...], tuple[str, ...]]:
    """One Volume on the grid of the stack with the finest pixels, with findings and steps.

    An MR grid is preferred, for a model reads MR. The other stacks are resampled linearly; beyond their edge stands
    their own minimum. Raises InputError for two patients or stacks that do not meet in space.
    """
    ordered = sorted(stacks, key=lambda stack: list(CONTRASTS).index(stack.contrast))
    origins = {stack.contrast: stack.origin for stack in ordered if stack.origin is not None}
    if origins and of_two_people(origins.values()):
        raise InputError("the images are of different patients by their headers; give one patient's examination")
    mr = [stack for stack in ordered if CONTRASTS[stack.contrast].dicom == MR]
    reference = min(mr or ordered, key=lambda stack: float(np.prod(sorted(stack.spacing_mm)[:2])))
    findings = [finding for stack in ordered for finding in stack.findings]
    findings.extend(told_apart(origins))
    steps: list[str] = []
    if len({stack.frame_of_reference for stack in ordered if stack.frame_of_reference}) > 1:
        findings.append(
            Finding(
                "warning",
                "the series have different frames of reference: the scanner does not vouch that they lie on each other",
                "mri",
            )
        )
    channels: list[FloatArray] = []
    for stack in ordered:
        if _same_grid(stack, reference):
            channels.append(stack.voxels)
            continue
        _meet(stack, reference, findings)
        channels.append(_resampled(stack, reference))
        steps.append(
            f"{stack.contrast} resampled linearly from {_grid(stack)} onto the grid of {reference.contrast}, "
            f"{_grid(reference)}"
        )
    volume = Volume(
        voxels=frozen(np.stack(channels).astype(np.float32, copy=False)),
        affine=frozen(reference.affine.astype(np.float64)),
        contrasts=tuple(stack.contrast for stack in ordered),
    )
    return volume, tuple(findings), tuple(steps)


def _same_grid(one: Stack, other: Stack) -> bool:
    if one.voxels.shape != other.voxels.shape:
        return False
    z, y, x = one.voxels.shape
    corners = np.array([[i, j, k, 1] for i in (0, x - 1) for j in (0, y - 1) for k in (0, z - 1)], dtype=float).T
    # A hundredth of a voxel: headers round, and resampling for that would only blur.
    return bool(np.abs((one.affine - other.affine) @ corners).max() < 0.01 * min(one.spacing_mm))


def _meet(stack: Stack, reference: Stack, findings: list[Finding]) -> None:
    z, y, x = reference.voxels.shape
    axes = [np.linspace(0, n - 1, min(n, 16)) for n in (x, y, z)]
    points = np.stack([*np.meshgrid(*axes, indexing="ij"), np.ones([len(a) for a in axes])]).reshape(4, -1)
    index = (np.linalg.inv(stack.affine) @ reference.affine @ points)[:3]
    size = np.array(stack.voxels.shape[::-1])[:, None]
    covered = float(np.mean(np.all((index > -0.5) & (index < size - 0.5), axis=0)))
    if covered == 0:
        raise InputError(
            f"{stack.contrast} and {reference.contrast} do not meet in space; give images of one examination and region"
        )
    if covered < 0.5:
        findings.append(
            Finding(
                "severe" if covered < 0.1 else "warning",
                f"covers only {100 * covered:.0f} % of the {reference.contrast} image; the rest is filled as air",
                f"mri {stack.contrast}",
            )
        )


def _resampled(stack: Stack, reference: Stack) -> FloatArray:
    import SimpleITK as sitk

    target = to_image(reference.voxels, reference.affine)
    fill = float(stack.voxels.min())
    moved = sitk.Resample(
        to_image(stack.voxels, stack.affine), target, sitk.Transform(), sitk.sitkLinear, fill, sitk.sitkFloat32
    )
    array: FloatArray = sitk.GetArrayFromImage(moved)
    return array


def _grid(stack: Stack) -> str:
    return f"{_size(stack.voxels)} at {' x '.join(f'{s:.2f}' for s in stack.spacing_mm)} mm"


def _size(voxels: FloatArray) -> str:
    return " x ".join(str(n) for n in reversed(voxels.shape))
