"""What a case came with, and what is missing of it, in the words of the table of modalities."""

from __future__ import annotations

from cmssd_core.cases.modalities import BOTH, MODALITIES, VOLUME, describe_given
from cmssd_core.types import Case, Prediction, Profile

ALL = "all there is"


def name_modality(name: str) -> str:
    """The one word for a modality on screen."""
    return MODALITIES[name].label if name in MODALITIES else name


def describe_condition(given: str) -> str:
    """What a model was given of each case, in words: "all there is", "MRI alone"."""
    return ALL if given == BOTH else describe_given(given)


def describe_absent(name: str, prediction: Prediction | None = None) -> str:
    """That a case came without a modality, and what its prediction lacks for that."""
    lacks = name == VOLUME and prediction is not None and "severity_pct" in prediction.answers
    return f"No {name_modality(name)} was given{': there is no map and no severity' if lacks else ''}."


def describe_undrawn(case: Case) -> str | None:
    """The inputs of a case that no viewer draws, in a sentence; None where there are none."""
    found = [
        f"{MODALITIES[name].noun} of {len(value.names):,} genes"
        for name, value in case.inputs.items()
        if isinstance(value, Profile)
    ]
    return f"This case has {' and '.join(found)}." if found else None
