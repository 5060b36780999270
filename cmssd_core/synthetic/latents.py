"""What a synthetic patient is before any picture of it: aggressiveness, size, label and where signs are hidden.

Aggressiveness and size are separate, so that severity cannot be read off malignancy nor malignancy off size. In the
`paper` preset a malignancy may show no sign in one modality and then looks exactly benign there; the two hidden sets
are disjoint, so both modalities together always know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmssd_core.types import InputError

PRESETS = ("paper",)
PREVALENCE = 0.30
HIDDEN_ON_MRI = 0.118  # share of malignancies without a sign on the MRI: its oracle then has AUC 1 - 0.118 / 2 = 0.941
HIDDEN_ON_HE = 0.074  # likewise for the slide: AUC 1 - 0.074 / 2 = 0.963


@dataclass(frozen=True)
class Latent:
    """One synthetic patient. All in [0, 1] unless said.

    malignant: the label. aggressive_mri, aggressive_he: what each modality shows of it; below 0.4 benign, above 0.6
    malignant. size: extent of the lesion, independent of the label. age_years: a growth plate shows below 18.
    """

    malignant: bool
    aggressive_mri: float
    aggressive_he: float
    size: float
    age_years: float

    @property
    def hidden_on(self) -> str | None:
        """The modality in which this malignancy shows no sign, or None."""
        if self.malignant and self.aggressive_mri < 0.5:
            return "mri"
        if self.malignant and self.aggressive_he < 0.5:
            return "he"
        return None


def draw(preset: str, rng: np.random.Generator) -> Latent:
    """One patient of a preset. Raises InputError for a preset that is not in PRESETS."""
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} came, expected one of {', '.join(PRESETS)}; choose one of these")
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


def oracles(latents: list[Latent]) -> dict[str, float | None]:
    """AUC of readers who know the generator: from the MRI alone, from the slide alone, from both.

    A reader of one modality sees a sign or none; of both, a sign in either. AUC counts ties as one half. None where
    there is no malignant or no benign patient.
    """
    y = np.array([latent.malignant for latent in latents])
    mri = np.array([latent.aggressive_mri >= 0.5 for latent in latents])
    he = np.array([latent.aggressive_he >= 0.5 for latent in latents])

    def auc(sign: np.ndarray) -> float | None:
        return float(0.5 + 0.5 * (sign[y].mean() - sign[~y].mean())) if 0 < y.sum() < len(y) else None

    return {"auc_mri": auc(mri), "auc_he": auc(he), "auc_both": auc(mri | he)}
