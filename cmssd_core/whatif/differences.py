"""Before and after: signed differences, what they are worth, and whether the gate leans as section 3.7 says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cmssd_core.evaluation.metrics import THRESHOLD
from cmssd_core.evaluation.overlap import dice
from cmssd_core.types import BoolArray, FloatArray, Prediction
from cmssd_core.whatif.change import Change, canonical

SMALLEST_LEAN = 0.01  # a mean gate that moves less than this over all levels is called unmoved
INPUTS = {"mri": "MRI", "he": "slide"}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure before and after a change; None where there is none."""

    name: str
    unit: str
    before: float | None
    after: float | None

    @property
    def by(self) -> float | None:
        """After minus before."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True, kw_only=True)
class MapChange:
    """Tumour (at THRESHOLD and above) that a change adds and takes away, in mL; Dice of both masks, None if empty."""

    gained_ml: float
    lost_ml: float
    dice: float | None


@dataclass(frozen=True, kw_only=True)
class Lean:
    """A question about the gate and its answer in words. by: towards the sound input, from the first level to the last.

    yes: None where there is no gate to read.
    """

    question: str
    answer: str
    by: float | None
    yes: bool | None


def differences(before: Prediction, after: Prediction) -> tuple[Difference, ...]:
    """Severity, probability, tumour volume and gate, before and after."""
    rows = (
        ("Severity", "%", "severity_pct"),
        ("Probability of malignancy", "", "p_malignant"),
        ("Tumour volume", "mL", "tumour_ml"),
        ("Mean gate", "", "gate_mean"),
        ("Gate at the biopsy site", "", "gate_at_site"),
    )
    return tuple(
        Difference(name=name, unit=unit, before=getattr(before, field), after=getattr(after, field))
        for name, unit, field in rows
    )


def map_difference(before: Prediction, after: Prediction, name: str = "tumour") -> FloatArray | None:
    """After minus before of a map, (z, y, x) in [-1, 1]; None where either lacks it."""
    if name not in before.maps or name not in after.maps:
        return None
    out: FloatArray = after.maps[name] - before.maps[name]
    return out


def map_change(before: Prediction, after: Prediction) -> MapChange | None:
    """How the tumour's mask changed; None where either has no map."""
    if "tumour" not in before.maps or "tumour" not in after.maps or before.affine is None:
        return None
    one: BoolArray = before.maps["tumour"] >= THRESHOLD
    other: BoolArray = after.maps["tumour"] >= THRESHOLD
    ml = abs(float(np.linalg.det(before.affine[:3, :3]))) / 1000.0
    overlap = dice(one, other) if one.any() or other.any() else None
    return MapChange(gained_ml=float((other & ~one).sum()) * ml, lost_ml=float((one & ~other).sum()) * ml, dice=overlap)


def is_covered(change: Change, after: Prediction) -> bool:
    """Whether what calibration says of the answer holds: nothing is made up, and it was calibrated on such cases."""
    form = canonical(change)
    return form == Change(off=form.off) and "coverage" in (after.uncertainty or {})


def doubts(change: Change, before: Prediction, after: Prediction) -> tuple[str, ...]:
    """What the changed answer is worth: whether its interval holds, what is unlike the images known, the gate alone."""
    form, words = canonical(change), []
    summary, known = after.uncertainty or {}, before.uncertainty or {}
    coverage = f"{summary['coverage']:.0%}" if "coverage" in summary else ""
    if form and coverage and not is_covered(form, after):
        words.append(
            f"The weights were calibrated on unchanged inputs: on this made-up one neither the {coverage} interval nor "
            "the calibrated probability is covered."
        )
    elif form.off and coverage:
        alone = " and ".join(label for name, label in INPUTS.items() if name not in form.off)
        words.append(
            f"The {coverage} interval and the probability are those calibrated on cases with the {alone} alone."
        )
    elif form:
        words.append("Nothing was calibrated for this answer: read it as what the network gives, no more.")
    for name, label in INPUTS.items():
        away, limit, was = (summary.get(f"ood_{name}"), summary.get(f"ood_{name}_limit"), known.get(f"ood_{name}"))
        if away is None or limit is None or away <= limit:
            continue
        before_too = " It was so before the change." if was is not None and was > limit else ""
        moved = "" if was is None else f", {was:.1f} before"
        words.append(
            f"Out of distribution: this {label} is unlike the images the weights were calibrated on (distance "
            f"{away:.1f}{moved}; usual below {limit:.1f}).{before_too}"
        )
    if form.off and after.gate_mean is not None:
        words.append("With one input there is nothing to weigh, so the gate is 1 by definition.")
    return tuple(words)


def leaning(damaged: Literal["mri", "he"], levels: Sequence[float], gates: Sequence[float | None]) -> Lean:
    """Does the gate lean to the sound input as the other degrades (seed paper 000, section 3.7)? By these numbers.

    gates: the mean gate at each level, 1 = all MRI; levels ascend.
    """
    sound = "MRI" if damaged == "he" else "slide"
    question = f"Does the gate lean to the {sound} as the {INPUTS[damaged]} degrades?"
    known = [gate for gate in gates if gate is not None]
    if len(known) < len(gates) or len(known) < 2:
        answer = "This cannot be asked of this case: a gate needs both an MRI and a slide."
        return Lean(question=question, answer=answer, by=None, yes=None)
    towards = 1 if damaged == "he" else -1
    by = towards * (known[-1] - known[0])
    steps = towards * np.diff(known)
    span = f"the mean gate goes from {known[0]:.3f} at level {levels[0]:g} to {known[-1]:.3f} at level {levels[-1]:g}"
    if by >= SMALLEST_LEAN:
        how = "growing with every level" if bool((steps >= 0).all()) else "but not with every level"
        start = "Yes, in this case"
        how = f" ({by:+.3f} towards the {sound}, {how})"
    elif by <= -SMALLEST_LEAN:
        start, how = "No, it leans the other way", f" ({-by:+.3f} towards the damaged {INPUTS[damaged]})"
    else:
        start, how = "No", f", which is less than {SMALLEST_LEAN:g} of a change towards the {sound}"
    return Lean(question=question, answer=f"{start}: {span}{how}.", by=by, yes=by >= SMALLEST_LEAN)
