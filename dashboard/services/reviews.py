"""Reviews for the screen: the database, the order in which a reader meets the cases, and a case without its answer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from cmssd_core.config import settings
from cmssd_core.reviews import agreement
from cmssd_core.reviews.agreement import Agreement
from cmssd_core.reviews.store import Reviews, open_at
from cmssd_core.reviews.table import as_csv
from cmssd_core.types import Case, InputError, Prediction
from dashboard import permitted, state
from dashboard.config import dashboard_settings
from dashboard.selection import CaseRef
from dashboard.services import cohort as cohorts
from dashboard.services.fence import fence
from dashboard.services.model import Progress, at_work, model

if TYPE_CHECKING:
    from cmssd_core.machine.store import Store

_MALIGNANT = "The lesion is a malignant bone tumour."


@dataclass(frozen=True)
class Summary:
    """What the reviews say. counted and left_out: blind readings, and those that were not."""

    readers: tuple[str, ...]
    counted: int
    left_out: int
    verdicts: int
    between: tuple[Agreement, ...]
    with_model: tuple[Agreement, ...]


@st.cache_resource(show_spinner=False)
def _opened(place: str) -> Reviews:
    return open_at(place)


def reviews() -> Reviews:
    """The database of this installation, shared by all sessions. InputError where it cannot be used."""
    return _opened(dashboard_settings().reviews.get_secret_value())


def criteria(cohort: Path) -> Mapping[str, str]:
    """What a reader marks, each with its meaning: the answer, then the criteria it should rest on, a site's own too."""
    from cmssd_core.explain.criteria import criteria as listed

    return {agreement.MALIGNANT: _MALIGNANT, **{c.name.replace("_", " "): c.meaning for c in listed(cohort.parent)}}


def queue(cohort: Path, reader: str) -> tuple[CaseRef, ...]:
    """The cohort's cases in an order of this reader's own, always the same, that says nothing of the cases."""

    def place(case_id: str) -> str:
        return sha256(f"{reader}\0{case_id}".encode()).hexdigest()

    names = [str(name) for name in cohorts.table(cohort)["case_id"]]
    return tuple(CaseRef(cohort, name) for name in sorted(names, key=place))


def case_of(ref: CaseRef, *, reads: tuple[str, ...] | None = None) -> Case:
    """The case's images and nothing else: neither masks nor the model's answer.

    reads: None = the images, under whose id readings are kept whatever the model in use reads besides.
    """
    if ref.cohort is None:
        result = state.result()
        if result is None or result.case.id != ref.case_id:
            raise InputError("this case is no longer open in this session; open it on Analyse again")
        return result.case
    present = cohorts.State.of(ref.cohort)
    if present is None:
        raise InputError("the cohort is not there any more; open another one")
    return _case(present, ref.case_id, reads)


@st.cache_resource(max_entries=4, show_spinner="Opening the case")
def _case(present: cohorts.State, case_id: str, reads: tuple[str, ...] | None = None) -> Case:
    from cmssd_core.cohort import table as cohort

    path = Path(present.path)
    rows = cohorts.table(path)
    rows = rows[rows["case_id"] == case_id]
    if rows.empty:
        raise InputError("the cohort has no such case any more; choose another one")
    return cohort.admit_row(
        rows.iloc[0], path.parent, masks=False, reads=reads or cohort.READ_BY_ALL, within=permitted.root(),
        fence=fence(),
    )  # fmt: skip


@st.cache_resource(max_entries=8, show_spinner=False)
def _ids(present: cohorts.State) -> dict[str, str]:
    return {}  # row -> content id, filled as cases are looked up


def _content_id(present: cohorts.State, case_id: str) -> str:
    """The content hash under which readings of a case are kept; remembered on disk, since it takes reading files."""
    from cmssd_core.machine.store import StoreError, key, open_store

    store: Store = open_store(settings())
    name = key(what="content id", table=present.path, time_ns=present.time_ns, row=case_id)
    with contextlib.suppress(StoreError):
        kept = store.get(name)
        if kept is not None:
            return str(kept.meta["case_id"])
    found = _case(present, case_id).id
    with contextlib.suppress(StoreError):
        store.put(name, arrays={}, meta={"case_id": found})
    return found


def read_by(cohort: Path, listed: tuple[CaseRef, ...], reader: str, progress: Progress) -> tuple[bool, ...]:
    """Which of a cohort's cases this reader has read."""
    mine, present = {one.case_id for one in reviews().readings() if one.reader == reader}, cohorts.State.of(cohort)
    if not mine or present is None:
        return (False,) * len(listed)
    known = _ids(present)
    for number, ref in enumerate(listed):
        if ref.case_id not in known:
            progress(number / len(listed), f"looking up case {number + 1} of {len(listed)}")
            known[ref.case_id] = _content_id(present, ref.case_id)
    return tuple(known[ref.case_id] in mine for ref in listed)


def answer(case: Case, progress: Progress) -> Prediction:
    """What the model in use says of the case: asked only after the reading is kept."""
    from cmssd_core.inference import predict as inference
    from cmssd_core.machine.store import open_store

    predictor, chosen = model(), settings()
    with at_work(predictor.model_id, progress):
        return inference.predict(case, predictor, settings=chosen, store=open_store(chosen), progress=progress)


def summary() -> Summary:
    """Agreement over all reviews that are kept."""
    kept = reviews()
    readings, verdicts = kept.readings(), kept.verdicts()
    return _summary(kept.where, len(readings), len(verdicts), settings().severity_tiers)


@st.cache_resource(max_entries=8, show_spinner="Computing agreement")
def _summary(where: str, readings: int, verdicts: int, tiers: tuple[tuple[str, float], ...]) -> Summary:
    # Nothing kept is ever changed, so the numbers of rows are the state of the database.
    kept = reviews()
    read, words = kept.readings()[:readings], kept.verdicts()[:verdicts]
    blind = [one for one in read if one.blind]
    return Summary(
        readers=tuple(sorted({one.reader for one in read})),
        counted=len(blind),
        left_out=len(read) - len(blind),
        verdicts=len(words),
        between=agreement.between_readers(read, tiers),
        with_model=agreement.with_model(read, words, tiers),
    )


def table() -> str:
    """All reviews as CSV."""
    return as_csv(reviews().readings(), reviews().verdicts())
