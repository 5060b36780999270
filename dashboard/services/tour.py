"""What the guided tour shows: the shipped results on the demo cohort, and two of its patients with their maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from cmssd_core.config import settings
from cmssd_core.evaluation.figure import Figure
from cmssd_core.tasks.table import TASKS
from cmssd_core.types import Case, InputError, Prediction, Slide, Uint8Array, Volume
from dashboard.services import cohort as cohorts
from dashboard.services.model import at_work, model
from dashboard.views.tour import Record

COHORT = Path(__file__).resolve().parents[2] / "data_samples" / "cohort.csv"
#: data_samples/README.md says what is particular of them: signs on both images; no sign on the slide.
WHOLE, MISSED = "synth-00000", "synth-00021"
_TOLD = ("malignant", "tumour", "bone", "severity_pct")  # what the tour tells of


@dataclass(frozen=True, eq=False)
class Patient:
    """One demo patient: inputs, the model's answer and the slide's picture with its level-0 px per picture px."""

    case: Case
    prediction: Prediction
    picture: Uint8Array
    px_per_px: float


def is_installed() -> bool:
    """Whether this installation has the demo cohort with its results."""
    return COHORT.is_file() and cohorts.predictions(COHORT) is not None


def names() -> dict[str, str]:
    """Case -> its name in the tour, by which no patient could be known even if these were any."""
    return {str(case): f"patient {number + 1}" for number, case in enumerate(cohorts.table(COHORT)["case_id"])}


def load_patients() -> tuple[Record, ...]:
    """Every demo patient: what is known and what the model said."""
    called = names()
    by = {given: cohorts.join_answers(COHORT, given=given).set_index("case_id") for given in ("both", "mri", "he")}
    both = by["both"]
    return tuple(
        Record(
            name=called[case],
            malignant=bool(both.loc[case, "malignant"]),
            p=_number(both, case, "p_malignant"),
            p_mri=_number(by["mri"], case, "p_malignant"),
            p_slide=_number(by["he"], case, "p_malignant"),
            severity=_number(both, case, "severity_pct"),
            severity_low=_number(both, case, "severity_low"),
            severity_high=_number(both, case, "severity_high"),
            severity_true=_number(both, case, "severity_true"),
        )
        for case in called
    )


def figure(name: str) -> Figure:
    """A figure of the results with its interval and n."""
    measured = cohorts.metrics(COHORT)
    if measured is None:
        raise InputError("the demo cohort has no results; run cmssd evaluate data_samples")
    one = measured[name]
    return Figure(one["value"], one["low"], one["high"], one["n"], one.get("reason"))


def model_id() -> str:
    """The model whose results they are."""
    measured = cohorts.metrics(COHORT)
    return str(measured["model_id"]) if measured else "none"


def patient(case_id: str) -> Patient:
    """A demo patient with maps by the model in use. Shared by all sessions: synthetic, and read-only.

    Raises InputError where the model does not answer what the tour tells of.
    """
    lacking = [TASKS[name].label for name in _TOLD if name not in model().model.tasks]
    if lacking:
        raise InputError(
            f"the tour tells of {' and '.join(lacking)}, which the model in use does not answer; take it with the "
            "weights that are shipped"
        )
    return _patient(case_id, model().model_id)


@st.cache_resource(max_entries=4, show_spinner="Reading the images; a few seconds, once")
def _patient(case_id: str, model_id: str) -> Patient:
    from cmssd_core.cohort import table as cohort
    from cmssd_core.inference import predict as inference
    from cmssd_core.machine.store import open_store
    from cmssd_core.slide.read import thumbnail

    table = cohorts.table(COHORT)
    case = cohort.admit_row(table[table["case_id"] == case_id].iloc[0], COHORT.parent)
    slide, volume = case.inputs.get("he"), case.inputs.get("mri")
    if not isinstance(slide, Slide) or not isinstance(volume, Volume):
        raise InputError("the demo patient of the tour lacks an image; restore data_samples")
    with at_work(model_id, lambda _share, _what: None):
        prediction = inference.predict(case, model(), settings=settings(), store=open_store(settings()))
    picture, px_per_px = thumbnail(slide, max_px=900)
    return Patient(case, prediction, picture, px_per_px)


def _number(rows: pd.DataFrame, case: str, column: str) -> float | None:
    value = rows.loc[case, column] if column in rows else None
    return None if value is None or pd.isna(value) else float(value)
