"""What-if for the screen: one bench a session and case, answers under the model's lock, kept by what was changed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import streamlit as st

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.config import Settings, settings
from cmssd_core.types import Case, InputError, PatchBag, Slide, Uint8Array, Volume
from dashboard import permitted, state
from dashboard.selection import CaseRef
from dashboard.services import cohort as cohorts
from dashboard.services.fence import fence
from dashboard.services.model import Progress, at_work, model

if TYPE_CHECKING:
    from cmssd_core.explain.modality_shapley import ModalityShares
    from cmssd_core.inference.predict import Predictor
    from cmssd_core.whatif.ask import Answer, Bench
    from cmssd_core.whatif.change import Change, Region

Made = TypeVar("Made")
ANSWERS = 4  # a session keeps so many of each kind; older ones come from the store
SHARE_OF_STORE = 0.1  # what-if answers never push out more than this of the results' room


@dataclass(frozen=True)
class Step:
    """The figures at one level of an artefact; None where there is none."""

    level: float
    gate_mean: float | None
    gate_at_site: float | None
    severity_pct: float | None
    p_malignant: float | None


@dataclass
class _Desk:
    bench: Bench
    kept: OrderedDict[Any, Any] = field(default_factory=OrderedDict)


@st.cache_resource(scope="session", max_entries=2, show_spinner=False)
def _desk(key: str, model_id: str, chosen: str, _case: Case, _predictor: Predictor, _settings: Settings) -> _Desk:
    from cmssd_core.machine.store import Store
    from cmssd_core.whatif.ask import Bench

    room = int(SHARE_OF_STORE * _settings.cache_limit_gb * 1e9)
    store = Store(_settings.cache_dir / "what-if", limit_bytes=max(1, room))
    return _Desk(Bench(_case, _predictor, settings=_settings, store=store))


def _of(result: state.Result) -> _Desk:
    chosen, predictor = settings(), model()
    if result.prediction.model_id != predictor.model_id:
        raise InputError("the case was read by another model than the one in use now; open it again to ask what-if")
    # What the model does not read stays off the bench: a change of it could change nothing.
    read = {name: value for name, value in result.case.inputs.items() if name in predictor.spec}
    case = replace(result.case, inputs=read)
    return _desk(result.key, predictor.model_id, chosen.model_dump_json(), case, predictor, chosen)


def reads() -> tuple[str, ...]:
    """The modalities that the model in use reads."""
    return tuple(model().spec)


def may_miss(case: Case, name: str) -> bool:
    """Whether the model in use can answer a case from its other inputs, without this one."""
    from cmssd_core.studies.conditions import can_answer

    return can_answer(model().model, [each for each in case.inputs if each != name])


def _kept(desk: _Desk, kind: str, key: Any, progress: Progress, make: Callable[[Bench], Made]) -> Made:
    """What was made of a change before, else made now under the model's lock; cancelled work keeps nothing."""
    if (kind, key) not in desk.kept:
        with at_work(desk.bench.predictor.model_id, progress):
            made = make(desk.bench)
        desk.kept[kind, key] = made
    desk.kept.move_to_end((kind, key))
    for old in [each for each in desk.kept if each[0] == kind][:-ANSWERS]:
        del desk.kept[old]
    known: Made = desk.kept[kind, key]
    return known


def donor(of: CaseRef | None) -> Case | None:
    """The case whose slide stands in for the own one, admitted."""
    return None if of is None or of.cohort is None else _donor(str(of.cohort), of.case_id)


@st.cache_resource(scope="session", max_entries=2, show_spinner=False)
def _donor(path: str, case_id: str) -> Case:
    from cmssd_core.cohort.table import admit_row

    table = cohorts.table(Path(path))
    rows = table[table["case_id"] == case_id]
    if rows.empty:
        raise InputError(f"the cohort has no case {case_id}; choose another one")
    return admit_row(rows.iloc[0], Path(path).parent, masks=False, within=permitted.root(), fence=fence())


def donors(cohort: Path | None, *, but: CaseRef, most: int = 2000) -> list[str]:
    """Cases of the open cohort that have a slide, the own one left out."""
    if cohort is None:
        return []
    table = cohorts.table(cohort)
    columns = [column for column in MODALITIES["he"].columns if column in table]
    names = table.loc[table[columns].notna().any(axis=1), "case_id"].astype(str)
    return [name for name in names[:most] if CaseRef(cohort, name) != but]


def ask(result: state.Result, change: Change, progress: Progress, *, other: Case | None = None) -> Answer:
    """The answer to a change of the case. Raises InputError where the change cannot be."""
    from cmssd_core.whatif import ask as core

    return _kept(
        _of(result), "answer", change, progress,
        lambda bench: core.ask(bench, change, donor=other, progress=progress),
    )  # fmt: skip


def sweep(result: state.Result, name: str, progress: Progress) -> tuple[Step, ...]:
    """The case's figures as one artefact grows from level 0 to 5."""
    from cmssd_core.whatif import ask as core

    def make(bench: Bench) -> tuple[Step, ...]:
        return tuple(
            Step(level, p.gate_mean, p.gate_at_site, p.severity_pct, p.p_malignant)
            for level, p in core.sweep(bench, name, progress=progress)
        )

    return _kept(_of(result), "sweep", name, progress, make)


def swept(result: state.Result, name: str) -> bool:
    """Whether the levels of this artefact were computed already."""
    return ("sweep", name) in _of(result).kept


def shares(result: state.Result, change: Change, progress: Progress, *, other: Case | None = None) -> ModalityShares:
    """Exact Shapley share of each modality in the answer to a change."""
    from cmssd_core.whatif import ask as core

    return _kept(
        _of(result), "shares", change, progress,
        lambda bench: core.shares(bench, change, donor=other, progress=progress),
    )  # fmt: skip


def shared(result: state.Result, change: Change) -> bool:
    """Whether the shares of this change were computed already."""
    return ("shares", change) in _of(result).kept


def patches(result: state.Result, change: Change, *, other: Case | None = None) -> PatchBag | None:
    """The patches as the model reads them under a change; None without a slide."""
    from cmssd_core.whatif import ask as core

    return core.patches(_of(result).bench, change, donor=other)


def middle_mm(volume: Volume, region: Region) -> tuple[float, float, float]:
    """The middle of a drawn region, RAS+ mm. Raises InputError where it holds no voxel."""
    from cmssd_core.whatif.erase import mask_of

    z, y, x = np.argwhere(mask_of(volume, replace(region, reach=0))).mean(axis=0)
    at = volume.affine @ [x, y, z, 1.0]
    return float(at[0]), float(at[1]), float(at[2])


def thumbnail(slide: Slide, key: str) -> tuple[Uint8Array, float]:
    """A slide's picture, uint8 (y, x, 3), and level-0 px per picture px; `key` is the id of its case."""
    return _thumbnail(key, 1000, slide)


@st.cache_resource(scope="session", max_entries=3, show_spinner=False)
def _thumbnail(key: str, max_px: int, _slide: Slide) -> tuple[Uint8Array, float]:
    from cmssd_core.slide.read import thumbnail as read

    return read(_slide, max_px=max_px)
