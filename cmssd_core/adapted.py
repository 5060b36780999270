"""What fine-tuning on scans leaves beside the weights: the contrast learned, whose scans, what a cut scan's edges say.

A scan cut around a lesion is a reader's box: its frame alone says much of where to look. So the network learns what the
image adds to that: the frame's log odds are an offset of its logits. A scan that is not cut is read at even odds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import ndimage
from scipy.special import expit

from cmssd_core.mri.body import body_mask
from cmssd_core.mri.orient import radiological
from cmssd_core.types import BoolArray, FloatArray, InputError, Volume
from cmssd_core.whole import write_whole

SUFFIX = ".adapted.safetensors"
HEADER = "cmssd-adapted"
GRID = (16, 32, 32)  # of the frame, (slice, y, x)
LEAST = 0.02  # no place in a frame is surer than this, either way
CUT_MM = 300.0  # a scan cut around a lesion is no larger than this
TOUCHED = 0.1  # share of a side that shows body where the body goes on beyond it


@dataclass(frozen=True, eq=False, kw_only=True)
class Adapted:
    """frame: float32 GRID, the share of patients whose tumour lies there, each scan stretched over the grid.

    contrast: the one that was learned. learned_from: `fingerprint` of each mask. model_id: of the weights beside it.
    """

    frame: FloatArray
    contrast: str
    learned_from: tuple[str, ...]
    model_id: str

    def known(self, shape: tuple[int, ...]) -> FloatArray:
        """Log odds of tumour at each place of a cut scan before one looks, float32 (z, y, x)."""
        return log_odds(stretched(self.frame, shape))


def frame_of(masks: list[BoolArray]) -> FloatArray:
    """The mean of masks (z, y, x) stretched over GRID, and of their mirror images: how a scan is stored is chance."""
    mean = np.mean([stretched(mask.astype(np.float32), GRID) for mask in masks], axis=0)
    for axis in range(mean.ndim):
        mean = (mean + np.flip(mean, axis)) / 2
    frame: FloatArray = mean.astype(np.float32)
    return frame


def stretched(share: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """A frame stretched to another shape, linear, edge to edge."""
    zoom = [new / old for new, old in zip(shape, share.shape, strict=True)]
    moved: FloatArray = ndimage.zoom(share, zoom, order=1, grid_mode=True, mode="nearest")
    return moved


def log_odds(share: FloatArray) -> FloatArray:
    """Log odds of shares, none surer than LEAST."""
    sure = np.clip(share, LEAST, 1 - LEAST)
    odds: FloatArray = np.log(sure / (1 - sure)).astype(np.float32)
    return odds


def joined(probability: FloatArray, known: FloatArray) -> FloatArray:
    """What the network says of the image, taken together with what was known: their log odds added."""
    sure = np.clip(probability, 1e-4, 1 - 1e-4)
    both: FloatArray = expit(np.log(sure / (1 - sure)) + known)
    return both


def is_cut(volume: Volume) -> bool:
    """Whether a scan looks cut around a lesion: small, and the body leaves its slices both across and along.

    A whole limb lies in air, or runs out of a coronal or sagittal slice at two opposite sides.
    """
    shape = volume.voxels.shape[1:]
    layout = radiological(volume.affine, shape)
    _, row_mm, column_mm = np.array(volume.spacing_mm[::-1])[list(layout.axes)]
    _, rows, columns = layout.shape(shape)
    if max(rows * row_mm, columns * column_mm) > CUT_MM:
        return False
    body = layout.apply(body_mask(volume.voxels[0], volume.spacing_mm))
    along = [float(body[:, end].mean()) for end in (0, -1)]
    across = [float(body[:, :, end].mean()) for end in (0, -1)]
    return max(along) >= TOUCHED and max(across) >= TOUCHED


def fingerprint(mask: BoolArray) -> str:
    """Of a mask's voxels: tells a scan that was learned from, and nothing of who it is."""
    digest = hashlib.sha256(repr(mask.shape).encode())
    digest.update(np.packbits(mask).tobytes())
    return digest.hexdigest()[:16]


def path_of(weights: Path) -> Path:
    """Where what was adapted to lies beside a weights file."""
    return weights.with_name(weights.stem + SUFFIX)


def save(adapted: Adapted, path: Path) -> None:
    """Write it, whole or not at all."""
    header = {
        "contrast": adapted.contrast, "learned_from": adapted.learned_from, "model_id": adapted.model_id
    }  # fmt: skip

    def write(part: Path) -> None:
        save_file({"frame": adapted.frame.astype(np.float32)}, str(part), metadata={HEADER: json.dumps(header)})
        part.chmod(0o644)  # safetensors makes files for their owner alone

    write_whole(path, write)


def load(path: Path, *, model_id: str) -> Adapted | None:
    """What lies at `path`, None where there is nothing. Raises InputError where it is damaged or of other weights."""
    again = "make both anew with python -m benchmarks.real_data adapt"
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), "np") as stored:
            header = json.loads((stored.metadata() or {})[HEADER])
            frame = stored.get_tensor("frame")
        found = Adapted(**{**header, "learned_from": tuple(header["learned_from"])}, frame=frame)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as problem:
        raise InputError(f"{path.name} cannot be read ({problem}); {again}") from None
    if frame.shape != GRID:
        raise InputError(f"{path.name} holds a frame of shape {frame.shape}, expected {GRID}; {again}")
    if found.model_id != model_id:
        raise InputError(f"{path.name} belongs to {found.model_id}, the weights are {model_id}; {again}")
    return found
