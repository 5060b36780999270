"""What a kind of task is: how it is taught, what is said of a head, and what is scored; there are four, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmssd_core.types import Answer, Prediction, Truth, Volume

if TYPE_CHECKING:
    from torch import Tensor

    from cmssd_core.types import Batch

Row = dict[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Targets:
    """What a Batch should give; all on the batch's device. What is unknown is left out, or NaN where others know it.

    masks: float (case, slice, y, x) by name; a case's whole mask is NaN where it has none. labels: float (case,) by
    task. time_months, event: float (case,), of survival. spoilt: (case,) in [0, 1] by modality, how badly training
    damaged it.
    """

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    time_months: Tensor | None = None
    event: Tensor | None = None
    spoilt: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing a model may be asked.

    label: in words; unit: of its number, "" where it has none. truth: name of the mask or label it is taught by. term:
    name of its loss term. scale: what an error is divided by before it is squared (numbers). covered_by: a map whose
    overlap, where it is drawn and known, says all that this one's would (maps).
    """

    name: str
    kind: Kind
    label: str
    unit: str
    truth: str
    term: str
    scale: float = 1.0
    covered_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a kind's loss is given beside the head: all heads and maps of the output, the truth, the focal exponent.

    cases: of the whole step, where the batch is one part of it.
    """

    batch: Batch
    targets: Targets
    drawn: Mapping[str, Tensor]
    focal_gamma: float
    cases: int


@dataclass(frozen=True, kw_only=True)
class Kind:
    """loss gives terms by name; none where no case of the batch has the truth it needs.

    knows: whether a case's truth teaches the task. decode: a head of one case as an Answer, None for maps. row: numbers
    of one answered case beside its truth, as columns of a cohort's table.
    """

    name: str
    loss: Callable[[Task, Tensor, Question], dict[str, Tensor]]
    knows: Callable[[Task, Truth], bool]
    decode: Callable[[Task, Tensor], Answer | None]
    row: Callable[[Task, Prediction, Truth, Volume | None, bool], Row]
