"""What a synthetic patient is before any picture of it: aggressiveness, size, label and where signs are hidden.

Aggressiveness and size are separate, so that severity cannot be read off malignancy nor malignancy off size. In the
`paper` preset a malignancy may show no sign in one modality and then looks exactly benign there; the two hidden sets
are disjoint, so both modalities together always know. In the `realistic` preset the label is noisy, signs grow
continuously with aggressiveness, and each modality shows a noisy copy of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmssd_core.types import InputError

PRESETS = ("paper", "realistic")
PREVALENCE = 0.30
HIDDEN_ON_MRI = 0.118  # share of malignancies without a sign on the MRI: its oracle then has AUC 1 - 0.118 / 2 = 0.941
HIDDEN_ON_HE = 0.074  # likewise for the slide: AUC 1 - 0.074 / 2 = 0.963

# realistic: z ~ Beta(SHAPE, SHAPE), y ~ Bern(sigma(STEEP (z - 1/2))); a modality shows logit z + N(0, JITTER), the
# jitters of the two correlated by JITTER_CORRELATION: what one overstates the other understates, so both together
# know z far better than either. Independent jitters would leave them at AUC 0.917 instead of 0.942.
SHAPE, STEEP, JITTER, JITTER_CORRELATION = 1.6, 14.0, 0.6, -0.8


@dataclass(frozen=True)
class Latent:
    """One synthetic patient. All in [0, 1] unless said.

    malignant: the label. aggressive_mri, aggressive_he: what each modality shows of it; in the paper preset below 0.4
    benign, above 0.6 malignant. size: extent of the lesion, independent of the label. age_years: a growth plate shows
    below 18. graded: signs grow continuously with aggressiveness, instead of being there from 0.6 on. z: the true
    aggressiveness behind both copies, None where there is no other than the copies.
    """

    malignant: bool
    aggressive_mri: float
    aggressive_he: float
    size: float
    age_years: float
    graded: bool = False
    z: float | None = None

    @property
    def aggressive(self) -> float:
        """The patient's own aggressiveness; of two copies without an original, the larger."""
        return max(self.aggressive_mri, self.aggressive_he) if self.z is None else self.z

    @property
    def hidden_on(self) -> str | None:
        """The modality in which this malignancy shows no sign, or None; graded signs are never hidden outright."""
        if self.malignant and not self.graded and self.aggressive_mri < 0.5:
            return "mri"
        if self.malignant and not self.graded and self.aggressive_he < 0.5:
            return "he"
        return None


def draw(preset: str, rng: np.random.Generator) -> Latent:
    """One patient of a preset. Raises InputError for a preset that is not in PRESETS."""
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} came, expected one of {', '.join(PRESETS)}; choose one of these", "preset")
    return _paper(rng) if preset == "paper" else _realistic(rng)


def _paper(rng: np.random.Generator) -> Latent:
    malignant = bool(rng.random() < PREVALENCE)
    hidden = rng.random()
    benign, aggressive = rng.uniform(0.0, 0.4, 2), rng.uniform(0.6, 1.0, 2)
    on_mri = malignant and not hidden < HIDDEN_ON_MRI
    on_he = malignant and not HIDDEN_ON_MRI <= hidden < HIDDEN_ON_MRI + HIDDEN_ON_HE
    return Latent(
        malignant=malignant,
        aggressive_mri=float(aggressive[0] if on_mri else benign[0]),
        aggressive_he=float(aggressive[1] if on_he else benign[1]),
        size=float(rng.uniform()),
        age_years=float(rng.uniform(6, 60)),
    )


def _realistic(rng: np.random.Generator) -> Latent:
    z = float(np.clip(rng.beta(SHAPE, SHAPE), 1e-6, 1 - 1e-6))
    malignant = bool(rng.random() < sigmoid(STEEP * (z - 0.5)))
    first, second = rng.standard_normal(2)
    second = JITTER_CORRELATION * first + np.sqrt(1 - JITTER_CORRELATION**2) * second
    mri, he = (float(sigmoid(np.log(z / (1 - z)) + JITTER * noise)) for noise in (first, second))
    return Latent(
        malignant=malignant,
        aggressive_mri=mri,
        aggressive_he=he,
        size=float(rng.uniform()),
        age_years=float(rng.uniform(6, 60)),
        graded=True,
        z=z,
    )


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x))."""
    return float(1 / (1 + np.exp(-x)))
