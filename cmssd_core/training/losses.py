"""The loss of a step: every task's term by its kind, beside what a model adds of its own; weighted and summed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cmssd_core.tasks.kinds import Question, Targets
from cmssd_core.tasks.table import TASKS
from cmssd_core.types import Batch, ModelOutput

#: Terms that do not weigh 1. "severity" is the paper's lambda_2, "tumour" its lambda_1, which is 1: it gives no values.
WEIGHTS: Mapping[str, float] = {"severity": 5.0, "gate": 2.0}


def usual_weight(term: str) -> float:
    """What a term counts where no recipe says otherwise."""
    return WEIGHTS.get(term, 1.0)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """focal_gamma: exponent of the focal factor of maps, 0 = plain cross-entropy. weights: of terms, by name.

    A term that `weights` does not name weighs as WEIGHTS says, else 1.
    """

    focal_gamma: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def weight(self, term: str) -> float:
        """What a term counts."""
        return self.weights.get(term, usual_weight(term))


def sum_losses(
    output: ModelOutput,
    targets: Targets,
    batch: Batch,
    *,
    extra: Mapping[str, Tensor],
    settings: LossSettings,
    cases: int | None = None,
) -> dict[str, Tensor]:
    """Equation 5 and the additions, term by term; "total" is their weighted sum.

    Every term is a mean over the cases of a step of something that one case decides alone (survival apart, which
    compares cases), so a step computed in parts, or by several processes, is the same step. cases: of the whole step,
    where the batch is one part of it. extra: terms of the model's own. The overlaps of all maps are one term, "dice".
    """
    drawn = {**output.heads, **output.also}
    asked = Question(
        batch=batch,
        targets=targets,
        drawn=drawn,
        focal_gamma=settings.focal_gamma,
        cases=cases if cases is not None else len(batch.ids),
    )
    terms: dict[str, Tensor] = {}
    for name, task in TASKS.items():
        if name in drawn:
            for term, value in task.kind.loss(task, drawn[name], asked).items():
                terms[term] = terms[term] + value if term in terms else value
    terms |= extra
    if not terms:  # nothing in this batch teaches anything: no gradient, and no number that looks like one
        return {"total": torch.zeros((), requires_grad=True)}
    total = torch.stack([settings.weight(name) * value for name, value in terms.items()]).sum()
    return {"total": total, **terms}


def terms_of(tasks: tuple[str, ...], extra: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the terms that a model of these tasks can have, in the order of a run's table; taught maps included."""
    maps = any(TASKS[name].kind.name == "map" for name in tasks)
    taught = [name for name, task in TASKS.items() if name in tasks or (maps and task.kind.name == "map")]
    return (*(TASKS[name].term for name in taught), *(("dice",) if maps else ()), *extra)
