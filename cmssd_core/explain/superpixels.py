"""KernelShap and LIME: random mixtures of an image's superpixels, and a linear model of what the target makes of them.

Captum does the sampling and the fit; both modalities' superpixels are players of one game, numbered apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from captum.attr import KernelShap, Lime
from skimage.segmentation import slic
from torch import Tensor

from cmssd_core.explain.baselines import fill
from cmssd_core.explain.gradients import gap
from cmssd_core.explain.question import Found, Question, as_maps, one_by_one
from cmssd_core.types import FloatArray


def kernel_shap(question: Question) -> Found:
    """Lundberg and Lee, NeurIPS 2017: Shapley values of superpixels by a weighted linear fit."""
    return one_by_one(question, lambda one: _fitted(one, KernelShap, "KernelShap"))


def lime(question: Question) -> Found:
    """Ribeiro et al., KDD 2016: weights of a sparse linear model of the target around this image; no sum."""
    return one_by_one(question, lambda one: _fitted(one, Lime, "LIME"))


def _fitted(question: Question, kind: Callable[..., object], name: str) -> Found:
    bridge, settings = question.bridge, question.settings
    covers, words = fill(bridge, settings)
    ids, count = superpixels(question)
    passes = settings.passes or 3 * count
    at_once = question.copies()
    done = 0

    def counted(*inputs: Tensor) -> Tensor:
        nonlocal done
        done += len(inputs[0])
        question.tell(min(0.99, done / (passes + 1)), f"{name}: {done} of {passes} mixtures of superpixels")
        with torch.no_grad():
            return bridge(*inputs)

    with torch.random.fork_rng(devices=[]):  # Captum draws from torch's own generator
        torch.manual_seed(settings.seed)
        fitted = kind(counted).attribute(  # type: ignore[attr-defined]
            bridge.inputs,
            baselines=covers,
            feature_mask=ids,
            n_samples=passes,
            perturbations_per_eval=at_once,
            show_progress=False,
        )
    maps = []
    for values, members in zip(fitted, ids, strict=True):
        size = torch.bincount(members.flatten(), minlength=count).clamp(min=1)
        maps.append(values.float() / size[members])  # a superpixel's value spread over its pixels, so that maps add up
    with torch.no_grad():
        value, empty = bridge(*bridge.inputs), bridge(*covers)
    return Found(
        maps=as_maps(bridge.names, tuple(maps)),
        value=value,
        effort=f"{passes} mixtures of {count} superpixels that follow the image (SLIC)",
        baseline=words,
        baseline_value=empty,
        gap=gap(tuple(maps), value, empty) if name == "KernelShap" else None,
    )


def superpixels(question: Question) -> tuple[tuple[Tensor, ...], int]:
    """A number for each pixel of each input (its shape, contiguous), and how many there are.

    The MRI is parted in three dimensions, patches one by one, or taken whole where there are many. Of both modalities
    each gets half the superpixels. Numbers of different modalities differ: Captum takes equal ones for one player.
    """
    bridge = question.bridge
    share = max(2, question.settings.superpixels // len(bridge.names))
    found, first = [], 0
    for name, given in zip(bridge.names, bridge.inputs, strict=True):
        shown = given[0, :, 1] if given.ndim == 6 else given[0]  # (slice or patch, channel, y, x)
        image = np.moveaxis(shown.cpu().numpy(), 1, -1)
        if name == "mri":
            labels = _parted(image, share)
        else:
            each = max(1, share // len(image))
            parts = [_parted(patch[None], each)[0] for patch in image]
            offsets = np.cumsum([0, *(part.max() + 1 for part in parts)])
            labels = np.stack([part + offset for part, offset in zip(parts, offsets, strict=False)])
        shape = [1, len(labels), *[1] * (given.ndim - 4), *labels.shape[1:]]
        ids = torch.tensor(labels + first, device=given.device).reshape(shape)
        found.append(ids.expand(given.shape).contiguous())
        first += int(labels.max()) + 1
    return tuple(found), first


def _parted(image: FloatArray, count: int) -> np.ndarray:
    """Labels from 0 (z, y, x) of about `count` compact parts of an image (z, y, x, channel).

    SLIC (Achanta et al., TPAMI 2012); an image without structure, which it leaves in one piece, is cut into a grid.
    """
    if count == 1:
        return np.zeros(image.shape[:3], dtype=np.int64)
    low, high = np.percentile(image, (1, 99))
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float64)
    labels = slic(scaled, n_segments=count, compactness=0.1, channel_axis=-1, start_label=0, convert2lab=False)
    numbers, dense = np.unique(labels, return_inverse=True)
    if len(numbers) >= count / 3:
        return np.asarray(dense, dtype=np.int64).reshape(image.shape[:3])
    depth = max(1, min(len(image), round(count / 16)))
    side = max(1, round((count / depth) ** 0.5))
    z, y, x = (
        np.minimum(np.arange(n) * parts // n, parts - 1)
        for n, parts in zip(image.shape[:3], (depth, side, side), strict=True)
    )
    return np.asarray((z[:, None, None] * side + y[None, :, None]) * side + x[None, None, :], dtype=np.int64)
