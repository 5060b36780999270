"""One modality by itself, from its input to a logit of malignancy: what single-modality and late models are made of.

Functions of modules that the models hold, so that an encoder bears the same name in every model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmssd_core.blocks.encoders import MRIEncoder
from cmssd_core.blocks.layers import AttentionPool
from cmssd_core.blocks.maps import SIGNS, Decoder, decode, signs
from cmssd_core.blocks.passes import encode_bag, encode_slices, pool_cells
from cmssd_core.types import Batch


def head(inputs: int, hidden: int) -> nn.Sequential:
    """Features of a case -> one logit."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=False), nn.Linear(hidden, 1))


def judge(malignancy: nn.Module, context: Tensor, seen: Tensor | None = None) -> Tensor:
    """Malignancy (case,) as a logit, from what a case is pooled to and the signs on its maps (None = no maps)."""
    seen = context.new_zeros(len(context), SIGNS) if seen is None else seen.to(context.dtype)
    out: Tensor = malignancy(torch.cat([context, seen], dim=1)).squeeze(1)
    return out


def mri_alone(
    flat: Tensor,
    batch: Batch,
    *,
    phi_mri: MRIEncoder,
    pool: AttentionPool,
    decoder: Decoder,
    malignancy: nn.Module,
) -> tuple[Tensor, Tensor]:
    """flat (case * slice, channel, y, x) -> maps (case, slice, 3, y, x), malignancy (case,), all logits.

    malignancy reads F_MRI, attention-pooled and averaged over the case's slices, and the signs on its maps. A case
    without MRI has finite numbers that mean nothing.
    """
    valid = batch.valid["mri"] & batch.present["mri"][:, None]
    fused = encode_slices(phi_mri, flat, batch)
    context = pool_cells(pool, fused, valid)
    maps = decode(decoder, fused, context[:, : fused.shape[1]], flat)
    return maps, judge(malignancy, context, signs(maps, batch))


def slide_alone(
    batch: Batch, *, phi_he: nn.Module, pool: AttentionPool, malignancy: nn.Module, width: int
) -> tuple[Tensor, Tensor]:
    """Malignancy (case,) as a logit and attention (case, patch), pooled over the bag (Ilse et al., ICML 2018).

    A case without slide has a finite number that means nothing.
    """
    bag = encode_bag(phi_he, pool, batch, width=width)
    return malignancy(bag.pooled).squeeze(1), bag.weights
