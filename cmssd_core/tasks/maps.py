"""Maps: a probability for every voxel of the volume, taught by a mask (equation 5 of seed paper 000, first term)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmssd_core.evaluation.metrics import THRESHOLD, TUMOUR, score_map
from cmssd_core.tasks.kinds import Kind, Question, Row, Task
from cmssd_core.types import Prediction, Truth, Volume

if TYPE_CHECKING:
    from torch import Tensor

ON = "mri"  # the modality whose grid maps lie on


def focal_bce(logits: Tensor, target: Tensor, *, gamma: float) -> Tensor:
    """Binary cross-entropy times (1 - p_true)^gamma (Lin et al., ICCV 2017), element by element, (case, ...).

    Divided by the mean of the factor over the case's elements (as a constant), so gamma moves the attention between
    easy and hard elements but not the size of the loss.
    """
    import torch
    from torch.nn import functional as F

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


def _loss(task: Task, logits: Tensor, asked: Question) -> dict[str, Tensor]:
    """Cross-entropy and overlap over the cases that have the volume and the mask, on slices that are not padding."""
    masks = asked.targets.masks
    if task.truth not in masks:
        return {}
    truth, found = masks[task.truth], logits.float()
    real = asked.batch.valid[ON][:, :, None, None].float()
    share = real.mean(dim=(1, 2, 3)).clamp(min=1e-6)
    available = asked.batch.present[ON] & ~truth.flatten(1).isnan().any(1)
    truth = truth.nan_to_num()
    each = (focal_bce(found, truth, gamma=asked.focal_gamma) * real).mean(dim=(1, 2, 3)) / share
    terms = {task.term: (each * available).sum() / asked.cases}
    if task.covered_by is None or task.covered_by not in masks or task.covered_by not in asked.drawn:
        terms["dice"] = (soft_dice_loss(found.sigmoid() * real, truth * real) * available).sum() / asked.cases
    return terms


def _knows(task: Task, truth: Truth) -> bool:
    return task.truth in truth.masks


def _row(task: Task, found: Prediction, truth: Truth, volume: Volume | None, surfaces: bool) -> Row:
    mask = truth.masks.get(task.truth)
    if mask is None or volume is None or task.name not in found.maps:
        return {}
    seen = found.maps[task.name] >= THRESHOLD
    row: Row = dict(score_map(seen, mask, volume.spacing_mm[::-1], drawn=task.name, slow=surfaces))
    if task.name == TUMOUR:
        row["one_empty"] = bool(seen.any() != mask.any())
    return row


MAP = Kind(
    name="map",
    loss=_loss,
    knows=_knows,
    decode=lambda task, head: None,
    row=_row,
)
