"""A Prediction with its doubt: calibrated probability, conformal set and interval, distance to what was seen before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import Tensor

from cmssd_core.cases.modalities import MODALITIES, VOLUME, of_given
from cmssd_core.evaluation.distance import distance
from cmssd_core.inference.calibration import LABELS, Calibration, Limits
from cmssd_core.models.base import Model
from cmssd_core.types import Finding, Prediction

Features = Mapping[str, npt.NDArray[np.float64]]


@contextlib.contextmanager
def collect_features(model: Model) -> Iterator[dict[str, list[Tensor]]]:
    """While open, collects what each encoder of the model gives, averaged over space, (slice or patch, feature).

    Of a model that fuses features also "fused": the pooled F_fused its malignancy head reads, (case, feature).
    """
    seen: dict[str, list[Tensor]] = {}
    hooks = []
    for modality, path in model.encoders.items():

        def keep(_module: object, _given: object, output: Tensor, modality: str = modality) -> None:
            seen.setdefault(modality, []).append(
                output.detach().float().flatten(2).mean(2) if output.ndim > 2 else output
            )

        hooks.append(model.get_submodule(path).register_forward_hook(keep))
    if model.fused is not None:

        def keep_fused(_module: object, _given: object, output: tuple[Tensor, Tensor]) -> None:
            seen.setdefault("fused", []).append(output[0].detach().float())

        hooks.append(model.get_submodule(model.fused).register_forward_hook(keep_fused))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def vectors(seen: Mapping[str, list[Tensor]]) -> Features:
    """One feature vector a modality: the mean over slices or patches of one case; "fused" is one already."""
    return {
        modality: torch.cat([part.float() for part in parts]).mean(0).cpu().numpy().astype(np.float64)
        for modality, parts in seen.items()
    }


def calibrate(
    prediction: Prediction,
    calibration: Calibration,
    *,
    given: str,
    logit: float,
    features: Features,
    missing: tuple[str, ...] = (),
) -> Prediction:
    """The prediction with p_malignant calibrated, severity_interval, uncertainty, and remarks on what is strange.

    given: as `modalities.name_given` says; where the calibration holds nothing for it, the answer stays as the network
    gave it. missing: contrasts the model reads and the MRI does not have.
    """
    summary: dict[str, float] = {}
    remarks = list(prediction.quality)
    limits = calibration.given.get(given)
    if limits is not None:
        prediction, summary, words = _limited(prediction, limits, logit)
        summary["coverage"] = calibration.coverage
        remarks += words
    for modality, vector in features.items():
        cloud = calibration.clouds.get(modality)
        if cloud is None or modality not in of_given(given):
            continue
        away = float(distance(vector[None], cloud.means, cloud.precision)[0])
        summary |= {f"ood_{modality}": away, f"ood_{modality}_limit": cloud.limit}
        if away > cloud.limit:
            what = (
                f"unlike the images the weights were calibrated on (distance {away:.1f}, usual below {cloud.limit:.1f})"
            )
            why = f"; it has no {', no '.join(missing)}" if modality == VOLUME and missing else ""
            remarks.append(Finding("warning", f"this {MODALITIES[modality].label} is {what}{why}", "model"))
    return replace(prediction, uncertainty=summary or None, quality=tuple(remarks))


def _limited(
    prediction: Prediction, limits: Limits, logit: float
) -> tuple[Prediction, dict[str, float], list[Finding]]:
    p = float(expit(logit / limits.temperature))
    summary = {"temperature": limits.temperature, "p_uncalibrated": float(expit(logit))}
    kept = []
    for label, share in zip(LABELS, (1 - p, p), strict=True):
        limit = limits.set_limit[label]
        inside = limit is None or 1 - share <= limit
        summary[f"conformal_{label}"] = float(inside)
        kept += [label] if inside else []
    words = []
    if len(kept) != 1:
        what = "both labels are" if kept else "neither label is"
        words.append(
            Finding("warning", f"{what} in the calibrated set of this case: do not rely on its label", "model")
        )
    half = limits.severity_half[LABELS[p >= 0.5]]
    answers = dict(prediction.answers)
    answers["malignant"] = replace(answers["malignant"], value=p)
    if prediction.severity_pct is not None and half is not None:
        severity = prediction.severity_pct
        low, high = max(0.0, severity - half), min(100.0, severity + half)
        answers["severity_pct"] = replace(answers["severity_pct"], low=low, high=high)
    return replace(prediction, answers=answers), summary, words
