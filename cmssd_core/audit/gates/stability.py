"""Stability: a map that changes with noise nobody sees, or with the baseline, is no finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.explain.sanity import spearman

Map = npt.NDArray[np.floating[Any]]


def agreement(a: Map, others: Sequence[Map]) -> float | None:
    """Mean rank correlation of a map with others of the same case (noise, another baseline); None where flat."""
    found = [value for other in others if (value := spearman(a, other)) is not None]
    return float(np.mean(found)) if found else None


def sensitivity_max(a: Map, others: Sequence[Map]) -> float | None:
    """Largest ||other - a|| / ||a|| over maps of slightly changed inputs (Yeh et al., NeurIPS 2019); None where a is 0.

    A constant map scores perfectly: read it beside faithfulness only.
    """
    size = float(np.linalg.norm(a))
    return max(float(np.linalg.norm(other - a)) for other in others) / size if others and size > 0 else None
