"""Numbers: one quantity of the whole case, taught by its squared error (equation 5 of seed paper 000, second term)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmssd_core.tasks.kinds import Kind, Question, Row, Task
from cmssd_core.types import Answer, Prediction, Truth, Volume

if TYPE_CHECKING:
    from torch import Tensor


def _loss(task: Task, value: Tensor, asked: Question) -> dict[str, Tensor]:
    """Squared error in units of the task's scale, over the cases where truth and answer are defined."""
    truth = asked.targets.labels.get(task.truth)
    if truth is None:
        return {}
    error = (value.float() - truth).nan_to_num() / task.scale
    return {task.term: (error**2 * ~(truth.isnan() | value.isnan())).sum() / asked.cases}


def _decode(task: Task, head: Tensor) -> Answer:
    value = float(head[0])
    if value != value:  # NaN: undefined, such as equation 4 without bone
        return Answer(None, task.unit, reason=f"{task.label} is not defined for this case")
    return Answer(value, task.unit)


def _row(task: Task, found: Prediction, truth: Truth, volume: Volume | None, surfaces: bool) -> Row:
    answer = found.answers[task.name]
    known = truth.labels.get(task.truth)
    if known is None and task.name == "severity_pct":
        known = severity_of(truth)
    stem = task.name.removesuffix("_pct")
    row: Row = {task.name: answer.value, f"{stem}_true": known}
    if answer.low is not None and answer.high is not None:
        row |= {f"{stem}_low": answer.low, f"{stem}_high": answer.high}
    return row


def severity_of(truth: Truth) -> float | None:
    """Equation 4 of the true masks; None where one is missing or no bone is drawn."""
    tumour, bone = truth.masks.get("tumour"), truth.masks.get("bone")
    if tumour is None or bone is None or not bone.any():
        return None
    return 100.0 * float((tumour & bone).sum()) / float(bone.sum())


NUMBER = Kind(
    name="number",
    loss=_loss,
    knows=lambda task, truth: (
        task.truth in truth.labels or (task.name == "severity_pct" and severity_of(truth) is not None)
    ),
    decode=_decode,
    row=_row,
)
