"""Severity: equation 4 of seed paper 000 on probability maps."""

from __future__ import annotations

import torch
from torch import Tensor


def severity_pct(tumour: Tensor, bone: Tensor) -> Tensor:
    """Equation 4 on probability maps: 100 * A_tumour / A_bone, the tumour counted inside the bone's envelope.

    tumour, bone: (case, ...) in [0, 1] -> (case,) in [0, 100]; NaN where the bone's area is 0 (undefined).
    """
    inside = (tumour * bone).flatten(1).sum(1)
    area = bone.flatten(1).sum(1)
    # Dividing by NaN would make every gradient of the batch NaN, even where this case's severity is not used.
    return torch.where(area > 0, 100.0 * inside / torch.where(area > 0, area, 1.0), torch.nan)
