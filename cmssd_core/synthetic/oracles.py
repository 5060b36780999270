"""Oracles: what readers who know the generator reach on the very cases drawn; the ceiling of every model.

A reader is told what a modality shows of a patient's aggressiveness, without the pictures' noise, and answers by
Bayes' rule. Nobody can do better on pictures made from it, except by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from cmssd_core.synthetic.latents import (
    HIDDEN_ON_HE,
    HIDDEN_ON_MRI,
    JITTER,
    JITTER_CORRELATION,
    PREVALENCE,
    SHAPE,
    STEEP,
    Latent,
)
from cmssd_core.synthetic.person import Person

READERS = ("mri", "he", "both")
Floats = npt.NDArray[np.float64]


def p_malignant(latent: Latent) -> dict[str, float]:
    """The probability of malignancy for each of READERS."""
    return _graded(latent) if latent.graded else _all_or_none(latent)


def oracles(latents: Sequence[Latent], persons: Sequence[Person] = ()) -> dict[str, float | None]:
    """auc_* (ties count one half) and accuracy_* of READERS, and c_index of the true log-hazard (Harrell).

    None where a figure has no meaning: AUC with one class only, the C-index without two malignant patients whose order
    is known.
    """
    y = np.array([latent.malignant for latent in latents])
    summary = [p_malignant(latent) for latent in latents]
    found: dict[str, float | None] = {}
    for reader in READERS:
        p = np.array([each[reader] for each in summary])
        found[f"auc_{reader}"] = float(roc_auc_score(y, p)) if 0 < y.sum() < len(y) else None
        found[f"accuracy_{reader}"] = float(((p >= 0.5) == y).mean())
    followed = [person for person in persons if person.time_months is not None]
    found["c_index"] = concordance(
        np.array([person.log_hazard for person in followed], dtype=np.float64),
        np.array([person.time_months for person in followed], dtype=np.float64),
        np.array([person.event for person in followed], dtype=bool),
    )
    return found


def concordance(risk: Floats, time: Floats, event: npt.NDArray[np.bool_]) -> float | None:
    """Harrell's C over the pairs whose order is known; ties of risk count one half; None without such a pair."""
    right = pairs = 0.0
    for i in np.flatnonzero(event):
        later = time > time[i]
        pairs += later.sum()
        right += (risk[i] > risk[later]).sum() + 0.5 * (risk[i] == risk[later]).sum()
    return float(right / pairs) if pairs else None


def _all_or_none(latent: Latent) -> dict[str, float]:
    seen = {"mri": latent.aggressive_mri >= 0.5, "he": latent.aggressive_he >= 0.5}
    hidden = {"mri": PREVALENCE * HIDDEN_ON_MRI, "he": PREVALENCE * HIDDEN_ON_HE}
    alone = {name: 1.0 if seen[name] else hidden[name] / (hidden[name] + 1 - PREVALENCE) for name in seen}
    return {**alone, "both": float(any(seen.values()))}


def _graded(latent: Latent) -> dict[str, float]:
    mri, he = (np.log(a / (1 - a)) for a in (latent.aggressive_mri, latent.aggressive_he))
    # Both copies are exchangeable Gaussians around logit z: their mean is sufficient.
    joint = JITTER * np.sqrt((1 + JITTER_CORRELATION) / 2)
    return {"mri": _posterior(mri, JITTER), "he": _posterior(he, JITTER), "both": _posterior((mri + he) / 2, joint)}


@cache
def _grid() -> tuple[Floats, Floats, Floats]:
    """logit z, prior weight and P(malignant | z) on a fine grid of z."""
    z = (np.arange(2000) + 0.5) / 2000
    return np.log(z / (1 - z)), (z * (1 - z)) ** (SHAPE - 1), 1 / (1 + np.exp(-STEEP * (z - 0.5)))


def _posterior(shown: float, spread: float) -> float:
    logit, prior, malignant = _grid()
    exponent = -0.5 * ((shown - logit) / spread) ** 2
    weight = prior * np.exp(exponent - exponent.max())
    return float(weight @ malignant / weight.sum())


def lines(figures: Mapping[str, float | None]) -> list[str]:
    """The figures of `oracles` in words, for a terminal."""

    def summary(name: str, form: str) -> str:
        value = figures[name]
        return "none" if value is None else format(value, form)

    found = ["ceilings on these cases, reached by readers who know the generator:"]
    for reader, words in zip(READERS, ("MRI alone", "H&E alone", "both"), strict=True):
        found.append(
            f"  {words:<10} AUC {summary(f'auc_{reader}', '.3f')}, accuracy {summary(f'accuracy_{reader}', '.1%')}"
        )
    return [*found, f"  survival   C-index {summary('c_index', '.3f')}", "a model far above them has found a leak"]
