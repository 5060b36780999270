"""The figures of a prediction as cards: what the model answers, each with its doubt, and nothing it does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cmssd_core.config import settings
from cmssd_core.report.answers import EXPECTED, describe_answers
from cmssd_core.report.html import bounds
from cmssd_core.types import Prediction


@dataclass(frozen=True)
class Card:
    """One number as text, and right below it why not to trust it blindly. doubt is Markdown."""

    title: str
    value: str
    doubt: str


def make_cards(prediction: Prediction) -> tuple[Card, ...]:
    """Severity, malignancy and other answers, then the tumour's volume and the gate; what is not there has no card."""
    p, made = prediction, []
    if "severity_pct" in p.answers:
        made.append(_severity(p))
    if p.p_malignant is not None:
        made.append(
            Card("Probability of malignancy", short_of(1.0, p.p_malignant, 3), describe_certainty(p.uncertainty or {}))
        )
    made += [Card(line.title, line.value, line.doubt) for line in describe_answers(p) if line.task not in EXPECTED]
    if p.tumour_ml is not None:
        outside = "" if p.extraosseous_ml is None else f", {p.extraosseous_ml:.1f} mL of it outside the bone"
        bone = "no bone is drawn beside it" if p.bone_ml is None else f"bone envelope {p.bone_ml:.1f} mL{outside}"
        made.append(Card("Tumour volume", f"{p.tumour_ml:.1f} mL", bone))
    if p.gate_mean is not None:
        at_site = "biopsy site unregistered" if p.gate_at_site is None else f"{p.gate_at_site:.2f} at the biopsy site"
        words = f"{at_site}; 1 = MRI, 0 = slide. How inputs were mixed, not evidence"
        made.append(Card("Mean gate", f"{p.gate_mean:.2f}", words))
    return tuple(made)


def _severity(p: Prediction) -> Card:
    if p.severity_pct is None:
        return Card("Severity", "undefined", p.severity_reason or "no reason was recorded")
    uncertainty = p.uncertainty or {}
    coverage = f"{uncertainty['coverage']:.0%} interval" if "coverage" in uncertainty else "interval"
    ends = p.severity_interval
    interval = "no interval: not calibrated" if ends is None else f"{coverage} {ends[0]:.1f} to {ends[1]:.1f} %"
    tier = f"**{p.tier}** tier, unvalidated ({bounds(settings().severity_tiers)})" if p.tier else "no tier"
    return Card("Severity", f"{short_of(100.0, p.severity_pct, 1)} %", f"{interval}; {tier}")


def short_of(whole: float, value: float, digits: int) -> str:
    """A number that never looks like the whole it falls short of: 0.9999 of 1 is ">0.999"."""
    text = f"{value:.{digits}f}"
    return f">{whole - 10.0**-digits:.{digits}f}" if value < whole and float(text) >= whole else text


def describe_certainty(uncertainty: Mapping[str, float]) -> str:
    """What calibration says of the probability, in a reader's words."""
    if not {"conformal_benign", "conformal_malignant", "coverage"} <= uncertainty.keys():
        return "not calibrated"
    names = [name for name in ("benign", "malignant") if uncertainty[f"conformal_{name}"] >= 0.5]
    at = f"at {uncertainty['coverage']:.0%}"
    if len(names) == 1:
        return f"{at} only “{names[0]}” remains possible"
    return f"{at} both benign and malignant remain possible" if names else f"{at} neither fits: unlike the known cases"
