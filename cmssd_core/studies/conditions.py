"""What a model may be given of a case: all there is, and every smaller set of modalities it can answer from."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations

from cmssd_core.cases.modalities import BOTH
from cmssd_core.models.base import Model


def can_answer(model: type[Model] | Model, names: Collection[str]) -> bool:
    """Whether these modalities hold something the model reads and all it cannot do without."""
    needed = set(model.needs) - set(model.optional)
    return bool(set(names) & set(model.needs)) and needed <= set(names)


def subsets(model: type[Model] | Model) -> tuple[tuple[str, ...], ...]:
    """Every selection of modalities that a model can answer from, the largest first, each in the order of its needs."""
    sizes = range(len(model.needs), 0, -1)
    return tuple(some for size in sizes for some in combinations(model.needs, size) if can_answer(model, some))


def conditions(model: type[Model] | Model, came: Collection[str]) -> dict[str, tuple[str, ...]]:
    """By name what is left to a model of a case: BOTH is all that came, the others are smaller selections of it."""
    found = {BOTH: tuple(came)}
    read = [name for name in model.needs if name in came]
    for some in subsets(model):
        if set(some) < set(read):
            found["+".join(some)] = some
    return found
