"""How well two masks agree: Dice, IoU and the 95 % Hausdorff distance, with what they are where a mask is empty."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cmssd_core.types import BoolArray


def dice(one: BoolArray, other: BoolArray) -> float:
    """Overlap 2 |A and B| / (|A| + |B|); 1 where both are empty, 0 where only one is."""
    both = int(one.sum()) + int(other.sum())
    return 1.0 if both == 0 else 2.0 * int((one & other).sum()) / both


def iou(one: BoolArray, other: BoolArray) -> float:
    """|A and B| / |A or B|; 1 where both are empty."""
    union = int((one | other).sum())
    return 1.0 if union == 0 else int((one & other).sum()) / union


def hd95(one: BoolArray, other: BoolArray, spacing_mm: tuple[float, ...]) -> float:
    """95 % Hausdorff distance in mm: the larger of both directions' 95th percentile between the surfaces.

    spacing_mm in the order of the axes. 0 where both are empty, the diagonal of the image where one is: a mask that was
    not found must not be left out of a mean.
    """
    if not one.any() and not other.any():
        return 0.0
    if not one.any() or not other.any():
        return float(np.linalg.norm(np.array(one.shape) * np.array(spacing_mm)))
    box = ndimage.find_objects((one | other).astype(np.uint8))[0]
    first, second = (np.pad(mask[box], 1) for mask in (one, other))
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    away = [ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
    return float(max(np.percentile(away[1][edges[0]], 95), np.percentile(away[0][edges[1]], 95)))
