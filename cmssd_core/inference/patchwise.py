"""What a model says of each patch of a slide by itself: without the MRI, without the other patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cmssd_core.batches import move_batch
from cmssd_core.cases.collate import collate
from cmssd_core.cases.prepare import prepare
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.inference.predict import Predictor, precision
from cmssd_core.types import Case, FloatArray, PatchBag, frozen

TOGETHER = 16  # patches in one forward


def patchwise(case: Case, predictor: Predictor, *, settings: Settings | None = None) -> FloatArray | None:
    """Probability of malignancy given one patch alone, (patch,), in the order of Prediction.patch_xy.

    Not calibrated: the temperature was fitted on whole bags, and a bag of one patch is rare in training. None without a
    slide, or where the model cannot do without the MRI or judges no malignancy. Raises InputError for a slide that
    cannot be used. Hold the model's lock.
    """
    model = predictor.model
    if (
        "malignant" not in model.tasks
        or "he" not in case.inputs
        or "he" not in model.needs
        or not set(model.needs) - {"he"} <= set(model.optional)
    ):
        return None
    slide = Case(case.id, {"he": case.inputs["he"]})
    bag = prepare(slide, spec=predictor.spec, settings=settings or default_settings()).inputs["he"]
    assert isinstance(bag, PatchBag)
    alone = [
        Case(f"{case.id}-{n}", {"he": replace(bag, patches=bag.patches[n : n + 1], xy=bag.xy[n : n + 1])})
        for n in range(len(bag.patches))
    ]
    words = []
    for start in range(0, len(alone), TOGETHER):
        batch = move_batch(collate(alone[start : start + TOGETHER], predictor.spec), predictor.device)
        with precision(predictor.device):
            words.append(torch.sigmoid(model(batch).heads["malignant"].float()).cpu().numpy())
    return frozen(np.concatenate(words).astype(np.float32))


def doubt(probability: FloatArray) -> FloatArray:
    """Binary entropy in bits: 0 where the model is sure, 1 at 0.5 (Shannon, 1948)."""
    p = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
    return frozen((-p * np.log2(p) - (1 - p) * np.log2(1 - p)).astype(np.float32))
