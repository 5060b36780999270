"""Classes: a yes or no of the whole case, as a probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmssd_core.tasks.kinds import Kind, Question, Row, Task
from cmssd_core.types import Answer, Prediction, Truth, Volume

if TYPE_CHECKING:
    from torch import Tensor


def _loss(task: Task, logit: Tensor, asked: Question) -> dict[str, Tensor]:
    """Cross-entropy over the cases that have the label."""
    from torch.nn import functional as F

    label = asked.targets.labels.get(task.truth)
    if label is None:
        return {}
    wrong = F.binary_cross_entropy_with_logits(logit.float(), label.nan_to_num(), reduction="none")
    return {task.term: (wrong * ~label.isnan()).sum() / asked.cases}


def _row(task: Task, found: Prediction, truth: Truth, volume: Volume | None, surfaces: bool) -> Row:
    return {f"p_{task.name}": found.answers[task.name].value}


CLASS = Kind(
    name="class",
    loss=_loss,
    knows=lambda task, truth: task.truth in truth.labels,
    decode=lambda task, head: Answer(float(head[0].float().sigmoid()), ""),
    row=_row,
)
