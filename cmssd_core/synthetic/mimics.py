"""Mimics: what looks like a sign of malignancy and is none. Drawn whatever the label, so they tell nothing of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mimics:
    """Of one case of the realistic preset.

    cystic: the lesion is fluid between septa, very bright on T2 (a bone cyst; a telangiectatic osteosarcoma looks
    alike). scalloping: share of the remaining cortex that is worn away from within, the outermost shell left standing.
    soft_oedema_mm: thickness of oedema in the muscle around the bone, 0 for none.
    """

    cystic: bool
    scalloping: float
    soft_oedema_mm: float


def draw_mimics(rng: np.random.Generator) -> Mimics:
    """Fifteen in a hundred lesions are cystic, a third scallop deeply, two in five irritate the muscle."""
    cystic, scallops, irritates = rng.random(3) < (0.15, 0.33, 0.4)
    depth, thickness = rng.uniform(0.5, 0.95), rng.uniform(3.0, 10.0)
    return Mimics(bool(cystic), float(depth) if scallops else 0.0, float(thickness) if irritates else 0.0)
