"""Losses: equation 5 of seed paper 000 with the focal factor of its section 2.7, and what else CM-SSD's heads need.

Every term is a mean over the cases of a step of something that one case decides alone, so a step computed in parts,
or by several processes, is the same step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cmssd_core.blocks.severity import severity_pct
from cmssd_core.types import Batch, ModelOutput

TERMS = ("malignant", "tumour", "lesion", "bone", "destruction", "dice", "severity", "gate", "damage")
GATE = (
    0.75,
    -0.25,
    0.20,
)  # wanted mean of equation 2's gate: of sound inputs, and by damage of the MRI and of the slide


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms. The first two are the paper's lambda_1 and lambda_2; it gives no values.

    focal_gamma: exponent of the focal factor, 0 = plain cross-entropy. The rest is ours: cross-entropy of the lesion,
    of the bone that equation 4 divides by and of destroyed cortex, their overlaps (dice), the malignancy head, and the
    gate: section 3.7 says that it turns to the MRI where the slide is damaged, but nothing in equation 5 teaches it to,
    so its mean is drawn to GATE by how badly training spoilt either input; damage: the cross-entropy of that judgement.
    """

    tumour: float = 1.0
    severity: float = 5.0
    focal_gamma: float = 1.0
    lesion: float = 1.0
    bone: float = 1.0
    destruction: float = 1.0
    dice: float = 1.0
    malignant: float = 1.0
    gate: float = 2.0
    damage: float = 1.0


@dataclass(frozen=True, eq=False)
class Targets:
    """What a Batch should give: masks float (case, slice, y, x), malignant float (case,). All on the batch's device.

    A map's name is missing, or a case's whole map is NaN, where it is unknown; malignant is NaN where unknown. damage:
    (case, 2), how badly training spoilt the MRI and the slide, in [0, 1].
    """

    maps: dict[str, Tensor]
    malignant: Tensor
    damage: Tensor


def focal_bce(logits: Tensor, target: Tensor, *, gamma: float) -> Tensor:
    """Binary cross-entropy times (1 - p_true)^gamma (Lin et al., ICCV 2017), element by element, (case, ...).

    Divided by the mean of the factor over the case's elements (as a constant), so gamma moves the attention between
    easy and hard elements but not the size of the loss.
    """
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if gamma == 0:
        return bce
    factor = (1.0 - torch.exp(-bce.detach())) ** gamma
    usual = factor.flatten(1).mean(1).clamp(min=1e-3)
    return bce * factor / usual.view(-1, *[1] * (bce.ndim - 1))


def soft_dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """1 - Dice of each case, (case, ...) -> (case,); 0 where both are empty."""
    p, t = probability.flatten(1), target.flatten(1)
    return 1.0 - (2.0 * (p * t).sum(1) + 1.0) / (p.sum(1) + t.sum(1) + 1.0)


def loss(
    output: ModelOutput, targets: Targets, batch: Batch, *, weights: LossWeights, cases: int | None = None
) -> dict[str, Tensor]:
    """Equation 5 and the additions, term by term; "total" is their weighted sum.

    cases: of the whole step, where the batch is one part of it; each term is divided by it. Maps and severity count
    only for cases that have an MRI and the mask, on slices that are not padding. The severity target is equation 4 on
    the true masks of the very slices the network saw.
    """
    of = cases if cases is not None else len(batch.ids)
    known = ~targets.malignant.isnan()
    answer = F.binary_cross_entropy_with_logits(
        output.malignant_logit.float(), targets.malignant.nan_to_num(), reduction="none"
    )
    terms = {"malignant": (answer * known).sum() / of}
    if output.tumour_logits is not None and output.bone_logits is not None:
        real = batch.valid["mri"][:, :, None, None].float()
        share = real.mean(dim=(1, 2, 3)).clamp(min=1e-6)
        logits = {"tumour": output.tumour_logits, "bone": output.bone_logits, **output.auxiliary}
        overlap = []
        for name, answers in logits.items():
            if name not in targets.maps:
                continue
            truth = targets.maps[name]
            there = batch.present["mri"] & ~truth.flatten(1).isnan().any(1)
            truth, found = truth.nan_to_num(), answers.float()
            each = (focal_bce(found, truth, gamma=weights.focal_gamma) * real).mean(dim=(1, 2, 3)) / share
            terms[name] = (each * there).sum() / of
            # Where the lesion is drawn, its overlap says it all; the tumour is that lesion or nothing.
            if name != "tumour" or "lesion" not in targets.maps or "lesion" not in logits:
                overlap.append((soft_dice_loss(found.sigmoid() * real, truth * real) * there).sum() / of)
        terms["dice"] = torch.stack(overlap).sum()
        if output.severity_pct is not None and {"tumour", "bone"} <= targets.maps.keys():
            truth = severity_pct(targets.maps["tumour"] * real, targets.maps["bone"] * real)
            defined = batch.present["mri"] & ~truth.isnan() & ~output.severity_pct.isnan()
            error = (output.severity_pct.float() - truth).nan_to_num() / 100.0
            terms["severity"] = (error**2 * defined).sum() / of
    fused = batch.present["mri"] & batch.present["he"]
    if "cross" in output.attention and bool(fused.any()):
        cells = output.attention["cross"].float() * batch.valid["mri"][:, :, None, None]
        found = cells.mean(dim=(1, 2, 3)) / batch.valid["mri"].float().mean(1).clamp(min=1e-6)
        wanted = GATE[0] + targets.damage @ targets.damage.new_tensor(GATE[1:])
        away = F.binary_cross_entropy(found.clamp(1e-6, 1 - 1e-6), wanted, reduction="none")
        terms["gate"] = (away * fused).sum() / of
    if output.damage_logits is not None:
        terms["damage"] = damage_term(output.damage_logits, targets, batch, cases=of)
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return {"total": total, **terms}


def damage_term(logits: Tensor, targets: Targets, batch: Batch, *, cases: int) -> Tensor:
    """Cross-entropy of the judged damage (case, 2) with the true one, over the modalities that are shown."""
    seen = torch.stack([batch.present["mri"], batch.present["he"]], dim=1)
    wrong = F.binary_cross_entropy_with_logits(logits.float(), targets.damage, reduction="none")
    return (wrong * seen).sum() / cases
