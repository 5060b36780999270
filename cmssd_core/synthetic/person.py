"""The patient around the pictures: sex, driver mutations, gene expression, survival.

Frequencies and hazards follow docs/synthetic.md. Only malignant patients are followed up. The hazard is known, so the
concordance of the true log-hazard is the ceiling of every survival model on the cohort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cmssd_core.synthetic.latents import Latent, sigmoid

DRIVERS = {"TP53": 0.37, "RB1": 0.15, "CDKN2A": 0.13, "MYC": 0.12, "ATRX": 0.10}  # share of malignancies, altered
LINKED = ("RB1", "MYC")  # commoner where aggressive: log-odds + 0.8 (z - 1/2)
IN_BENIGN = 0.1  # a benign lesion carries a driver this many times as often
GENES = 200
SCALE, POWER = 0.0020, 1.25  # Weibull hazard SCALE POWER t^(POWER - 1) exp(log_hazard), t in months


@dataclass(frozen=True)
class Person:
    """sex "f" or "m"; drivers: altered or not; metastatic at diagnosis; event and time_months None where benign."""

    sex: str
    drivers: dict[str, bool]
    metastatic: bool
    log_hazard: float
    event: bool | None
    time_months: float | None


def person(latent: Latent, rng: np.random.Generator) -> Person:
    """Draw the person behind a latent."""
    z = latent.aggressive
    sex = "m" if rng.random() < 0.56 else "f"
    drivers = {}
    for name, share in DRIVERS.items():
        odds = np.log(share / (1 - share)) + (0.8 * (z - 0.5) if name in LINKED else 0.0)
        drivers[name] = bool(rng.random() < sigmoid(odds) * (1.0 if latent.malignant else IN_BENIGN))
    metastatic = bool(rng.random() < sigmoid(-1.6 + 4.7 * (z - 0.7))) and latent.malignant
    share_of_bone = 0.7 * latent.size  # about what a lesion of this size fills of its bone
    log_hazard = float(
        1.8 * (z - 0.72) + 1.5 * (share_of_bone - 0.35) + np.log(2.5) * metastatic + np.log(3.4) * drivers["MYC"]
    )
    dies = float((rng.exponential() / (SCALE * np.exp(log_hazard))) ** (1 / POWER))
    leaves = float(rng.uniform(12, 120))
    if not latent.malignant:
        return Person(sex, drivers, metastatic, log_hazard, None, None)
    return Person(sex, drivers, metastatic, log_hazard, dies <= leaves, min(dies, leaves))


def expression(latent: Latent, batch: int, rng: np.random.Generator) -> dict[str, float]:
    """Expression of GENES genes, log2 scale: aggressiveness, proliferation and immune axes, a batch shift, noise.

    Which gene follows which axis is the same in every cohort; `batch` (the number of the centre) shifts genes by an
    amount of its own.
    """
    biology = np.random.default_rng([0, 0, 9])
    level: npt.NDArray[np.float64] = biology.uniform(2, 10, GENES)
    loadings = biology.normal(0, 1, (3, GENES)) * (biology.random((3, GENES)) < 0.25)
    z = latent.aggressive
    axes = np.array([3 * (z - 0.5), 2 * (z - 0.5) + rng.standard_normal(), rng.standard_normal()])
    shift = np.random.default_rng([batch, 0, 10]).normal(0, 0.4, GENES)
    value = level + axes @ loadings + shift + rng.normal(0, 0.5, GENES)
    return {f"SYN{i:03d}": float(v) for i, v in enumerate(np.clip(value, 0, None))}
