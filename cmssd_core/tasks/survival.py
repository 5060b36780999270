"""Survival: a log hazard of the whole case, taught by who had the event before whom (Cox, JRSS B 1972)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmssd_core.tasks.kinds import Kind, Question, Row, Task
from cmssd_core.types import Answer, Prediction, Truth, Volume

if TYPE_CHECKING:
    from torch import Tensor


def _loss(task: Task, log_hazard: Tensor, asked: Question) -> dict[str, Tensor]:
    """Cox's negative partial log likelihood (Efron's ties) by event, over the cases that were followed.

    The risk sets are those of this batch. Without an event in it there is nothing to learn, so no term is given: a 0
    would look like a perfect answer.
    """
    from torchsurv.loss.cox import neg_partial_log_likelihood  # takes seconds to import

    time, event = asked.targets.time_months, asked.targets.event
    if time is None or event is None:
        return {}
    known = ~(time.isnan() | event.isnan())
    happened = event[known] > 0.5
    if int(known.sum()) < 2 or not bool(happened.any()):
        return {}
    whole = neg_partial_log_likelihood(
        log_hazard.float()[known], happened, time[known], ties_method="efron", reduction="sum"
    )
    # By event: torchsurv's mean is by month in which somebody had one, so it would grow with ties.
    return {task.term: whole / happened.sum() * (int(known.sum()) / asked.cases)}


def _row(task: Task, found: Prediction, truth: Truth, volume: Volume | None, surfaces: bool) -> Row:
    return {task.name: found.answers[task.name].value}


SURVIVAL = Kind(
    name="survival",
    loss=_loss,
    knows=lambda task, truth: truth.survival is not None and truth.survival.event,  # those without are compared with it
    decode=lambda task, head: Answer(float(head[0].float()), task.unit),
    row=_row,
)
