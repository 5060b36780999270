"""A case's slices and patches through a network: in groups that bound memory, pooled without what is padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmssd_core.blocks.layers import AttentionPool
from cmssd_core.types import Batch

SLICES_AT_ONCE = 8
PATCHES_AT_ONCE = 32
NEIGHBOURS = 3  # the slice before, this one and the one after


class Bag(NamedTuple):
    """A slide as vectors: pooled (case, width), of each patch (case, patch, width), pooling weights (case, patch)."""

    pooled: Tensor
    vectors: Tensor
    weights: Tensor


def flat_slices(batch: Batch) -> Tensor | None:
    """(case * slice, neighbour * contrast, y, x); None where no case has an MRI."""
    mri = batch.inputs.get("mri")
    if mri is None or not bool(batch.present["mri"].any()):
        return None
    return mri.flatten(2, 3).flatten(0, 1)


def real_patches(batch: Batch) -> Tensor | None:
    """The patches that are not padding, (patch, 3, y, x); None where no case has a slide."""
    patches = batch.inputs.get("he")
    if patches is None or not bool(batch.valid["he"].any()):
        return None
    return patches[batch.valid["he"]]


def encode_slices(encoder: nn.Module, flat: Tensor, batch: Batch) -> Tensor:
    """F_MRI (case * slice, width, h, w), zero where a case has no MRI (section 3.3 of seed paper 000)."""
    f_mri = torch.cat([encoder(part) for part in flat.split(SLICES_AT_ONCE)])
    available = batch.present["mri"].repeat_interleave(len(flat) // len(batch.ids))
    return f_mri * available[:, None, None, None]


def encode_bag(encoder: nn.Module, pool: AttentionPool, batch: Batch, *, width: int) -> Bag:
    """The slide's patches as vectors, zero where a case has no slide."""
    patches = batch.inputs.get("he")
    if patches is None or not bool(batch.present["he"].any()):
        none = next(encoder.parameters()).new_zeros(len(batch.ids), 1)
        return Bag(none.expand(-1, width), none[..., None].expand(-1, -1, width), none)
    vectors = torch.cat([encoder(part) for part in patches.flatten(0, 1).split(PATCHES_AT_ONCE)])
    vectors = vectors.unflatten(0, patches.shape[:2]) * batch.present["he"][:, None, None]
    pooled, weights = pool(vectors, batch.valid["he"] & batch.present["he"][:, None])
    return Bag(pooled, vectors, weights)


def pool_cells(pool: AttentionPool, fused: Tensor, valid: Tensor) -> Tensor:
    """fused (case * slice, width, h, w), valid (case, slice) -> (case, 2 * width).

    Attention-pooled, then averaged, over the cells (2x2 taken together) of the slices that are not padding.
    """
    if fused.shape[-1] > 1:
        fused = F.avg_pool2d(fused, 2)
    cells = fused.flatten(2).transpose(1, 2)  # (case * slice, cell, width)
    mask = valid.repeat_interleave(cells.shape[1], dim=1)
    cells = cells.reshape(len(valid), -1, cells.shape[2])
    pooled, _ = pool(cells, mask)
    mean = (cells * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.cat([pooled, mean], dim=1)
