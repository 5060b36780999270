"""Losses: equation 5 of seed paper 000 with the focal factor of its section 2.7, and what else CM-SSD's heads need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cmssd_core.blocks.severity import severity_pct
from cmssd_core.types import Batch, ModelOutput


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms. The first two are the paper's lambda_1 and lambda_2; it gives no values.

    focal_gamma: exponent of the focal factor, 0 = plain cross-entropy. dice, bone and malignant are ours: overlap
    of both maps, the bone's map that equation 4 divides by, and the malignancy head.
    """

    tumour: float = 1.0
    severity: float = 5.0
    focal_gamma: float = 2.0
    dice: float = 0.5
    bone: float = 0.5
    malignant: float = 1.0


@dataclass(frozen=True, eq=False)
class Targets:
    """What a Batch should give: masks float (case, slice, y, x), malignant float (case,). All on the batch's device."""

    tumour: Tensor
    bone: Tensor
    malignant: Tensor


def focal_bce(logits: Tensor, target: Tensor, *, gamma: float) -> Tensor:
    """Binary cross-entropy times (1 - p_true)^gamma (Lin et al., ICCV 2017), element by element.

    Divided by the mean of the factor over the elements (as a constant), so gamma moves the attention between easy
    and hard elements but not the size of the loss.
    """
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    factor = (1.0 - torch.exp(-bce)) ** gamma
    return bce * factor / factor.detach().mean().clamp(min=1e-3)


def soft_dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """1 - Dice of each case, (case, ...) -> (case,); 0 where both are empty."""
    p, t = probability.flatten(1), target.flatten(1)
    return 1.0 - (2.0 * (p * t).sum(1) + 1.0) / (p.sum(1) + t.sum(1) + 1.0)


def loss(output: ModelOutput, targets: Targets, batch: Batch, *, weights: LossWeights) -> dict[str, Tensor]:
    """Equation 5 and the additions, term by term; "total" is their weighted sum.

    Maps and severity count only for cases that have an MRI, on slices that are not padding. The severity target is
    equation 4 on the true masks of the very slices the network saw.
    """
    focus = output.malignant_logit.float()
    terms = {"malignant": F.binary_cross_entropy_with_logits(focus, targets.malignant)}
    total = weights.malignant * terms["malignant"]
    seen = batch.present["mri"]
    if output.tumour_logits is not None and output.bone_logits is not None and bool(seen.any()):
        real = batch.valid["mri"][seen]
        true_tumour, true_bone = targets.tumour[seen], targets.bone[seen]
        tumour, bone = output.tumour_logits[seen].float(), output.bone_logits[seen].float()
        masked = real[:, :, None, None]
        terms["tumour"] = focal_bce(tumour[real], true_tumour[real], gamma=weights.focal_gamma).mean()
        terms["bone"] = focal_bce(bone[real], true_bone[real], gamma=weights.focal_gamma).mean()
        p_tumour, p_bone = tumour.sigmoid() * masked, bone.sigmoid() * masked
        terms["dice"] = (
            soft_dice_loss(p_tumour, true_tumour * masked) + soft_dice_loss(p_bone, true_bone * masked)
        ).mean()
        truth = severity_pct(true_tumour * masked, true_bone * masked)
        error = (severity_pct(p_tumour, p_bone) - truth) / 100.0
        defined = ~truth.isnan()
        terms["severity"] = (error[defined] ** 2).mean() if bool(defined.any()) else error.new_zeros(())
        total = (
            total
            + weights.tumour * terms["tumour"]
            + weights.bone * terms["bone"]
            + weights.dice * terms["dice"]
            + weights.severity * terms["severity"]
        )
    return {"total": total, **terms}
