"""Shares of parts: what the target loses without a criterion's region, and each modality's Shapley value."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cmssd_core.batches import device_of
from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.explain.baselines import fill
from cmssd_core.explain.modality_shapley import modality_shares
from cmssd_core.explain.occlusion import Occluder
from cmssd_core.explain.question import Found, Mark, Question, one_by_one
from cmssd_core.types import InputError, Share

TRIES = 20  # places drawn for each control wanted
OVERLAP = 0.5  # of the region, with a control
ALIKE = 0.8  # a control covers at least this part of the content that the criterion's region covers
CONTENT_MRI, CONTENT_HE = 0.15, 0.12  # of the range from air to bright; of the way from white to black


def criterion_ablation(question: Question) -> Found:
    """What the target loses when a criterion's region is covered, beyond what the same shape costs elsewhere.

    Shares: the mean difference to the controls, with the 2.5 and 97.5 percentiles over them; maps: the share spread
    over the region. Raises InputError where the case has no criterion with a mask.
    """
    if not question.marks:
        raise InputError("no criterion of this case has a mask, so none can be assessed; add a mask and ask again")
    return one_by_one(question, _ablated)


def _ablated(question: Question) -> Found:
    bridge, settings = question.bridge, question.settings
    covers, words = fill(bridge, settings)
    occluder = Occluder(question)
    images = dict(zip(bridge.names, zip(bridge.inputs, covers, strict=True), strict=True))
    maps = {name: given.new_zeros(*given.shape[:2], *given.shape[-2:]) for name, (given, _) in images.items()}
    shares = []
    for number, mark in enumerate(question.marks):
        question.tell(number / len(question.marks), f"covering {mark.name}")
        if mark.modality not in images or not bool(mark.mask[0].any()):
            continue
        given, cover = images[mark.modality]
        controls = _controls(mark, given, settings.controls, np.random.default_rng(settings.seed))
        masks = [mark.mask[0], *controls]
        lost: list[float] = []
        at_once = question.copies((mark.modality,))
        for first in range(0, len(masks), at_once):
            some = [m.view(1, len(m), *[1] * (given.ndim - 4), *m.shape[1:]) for m in masks[first : first + at_once]]
            rows = [torch.where(m, cover, given) for m in some]
            lost += (occluder.value - occluder(mark.modality, rows))[:, 0].tolist()
        share = _share(mark, lost[0], np.array(lost[1:]))
        shares.append(share)
        maps[mark.modality] += mark.mask[:1] * (share.value / int(mark.mask[0].sum()))
    return Found(
        maps={name: m[:, :, None] if name == "mri" else m for name, m in maps.items()},
        value=occluder.value,
        effort=f"{len(shares)} criteria covered, each beside up to {settings.controls} other places of the same shape",
        baseline=words,
        shares=(tuple(shares),),
    )


def _share(mark: Mark, lost: float, elsewhere: np.ndarray) -> Share:
    if not len(elsewhere):
        words = "covered, the target changes by this much; no other place of this shape was there to compare with"
        return Share(mark.name, lost, meaning=words)
    excess = lost - elsewhere
    low, high = (float(q) for q in np.percentile(excess, (2.5, 97.5)))
    words = f"covered, the target loses {lost:.3f}; the same shape elsewhere costs {elsewhere.mean():.3f} on average"
    return Share(mark.name, float(excess.mean()), low, high, len(elsewhere), words)


def _controls(mark: Mark, given: Tensor, wanted: int, rng: np.random.Generator) -> list[Tensor]:
    """The criterion's mask shifted to other places (round the border), on as much content and, if that is possible,
    beside the criterion; one that covers much of the images overlaps its own shifts by at most OVERLAP.
    """
    mask = mark.mask[0].cpu().numpy()
    content = _content(mark.modality, given)
    need = ALIKE * content[mask].mean()
    beside: list[Tensor] = []
    over: list[Tensor] = []
    for _ in range(TRIES * wanted):
        if len(beside) == wanted:
            break
        shift = [int(rng.integers(n)) for n in mask.shape]
        moved = np.roll(mask, shift, axis=(0, 1, 2))
        shared = float(moved[mask].mean())
        if content[moved].mean() < need or shared > OVERLAP:
            continue
        (over if shared else beside).append(torch.tensor(moved, device=given.device))
    return (beside + over)[:wanted]


def _content(modality: str, given: Tensor) -> np.ndarray:
    """Where an image shows something, bool (slice or patch, y, x): neither air nor empty glass."""
    image = given[0, :, 1] if given.ndim == 6 else given[0]
    if modality == "he":
        return np.asarray((1 - image.mean(1) > CONTENT_HE).cpu().numpy())
    low, high = image.amin((0, 2, 3), keepdim=True), image.amax((0, 2, 3), keepdim=True)
    return np.asarray((((image - low) / (high - low).clamp(min=1e-6)).amax(1) > CONTENT_MRI).cpu().numpy())


def modality_shapley(question: Question) -> Found:
    """Exact Shapley value of each modality in the malignancy logit, by 2^n passes; the interaction beside them."""
    return one_by_one(question, _shapley)


def _shapley(question: Question) -> Found:
    bridge = question.bridge
    if bridge.target.name != "malignant":
        raise InputError("shares of the modalities are those of the malignancy logit; choose the target malignancy")

    def tell(done: float) -> None:
        question.tell(done, "each combination of the modalities")

    summary = modality_shares(bridge.model, bridge.batch, before_each=tell)
    shares = [Share(MODALITIES[name].label, summary.phi[name], meaning="Shapley value") for name in bridge.names]
    for (one, other), value in summary.interaction.items():
        words = "below 0: both say the same thing twice; above 0: they say more together; part of neither's share"
        shares.append(
            Share(f"interaction of {MODALITIES[one].label} and {MODALITIES[other].label}", value, meaning=words)
        )
    device = device_of(bridge.batch)
    return Found(
        maps={},
        value=torch.tensor([summary.values[frozenset(summary.phi)]], device=device),
        effort=f"{len(summary.values)} passes, every combination of the modalities",
        baseline=summary.baseline,
        baseline_value=torch.tensor([summary.values[frozenset()]], device=device),
        gap=torch.zeros(1, device=device),
        shares=(tuple(shares),),
    )
