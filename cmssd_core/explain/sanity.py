"""Sanity: a map of a trained model must not look like the map of the same network with scrambled weights.

Adebayo et al., NeurIPS 2018: methods that fail this draw the image's edges, not the model's reasons.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import nn

Net = TypeVar("Net", bound=nn.Module)
Map = npt.NDArray[np.floating[Any]]


def spearman(a: Map, b: Map) -> float | None:
    """Rank correlation of two maps; None where one of them is flat."""
    first, second = rankdata(a.ravel()), rankdata(b.ravel())
    if first.std() == 0 or second.std() == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def scramble_weights(model: Net, *, seed: int) -> Net:
    """A copy of the model whose every tensor keeps its values in another order: what the network is, untrained."""
    copy = deepcopy(model)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            _shuffle(parameter, rng)
    return copy.eval()


def cascade(model: Net, *, seed: int) -> Iterator[tuple[str, Net]]:
    """The model with ever more of its parts scrambled, from the answer down to the input: (part, model so far).

    Parts are the model's direct children in the reverse of their order; each model given is one object, further on.
    """
    copy = deepcopy(model).eval()
    rng = torch.Generator().manual_seed(seed)
    for name, child in reversed(list(copy.named_children())):
        parameters = list(child.parameters())
        if not parameters:
            continue
        with torch.no_grad():
            for parameter in parameters:
                _shuffle(parameter, rng)
        yield name, copy


def stages(model: Net, *, seed: int, count: int) -> list[tuple[str, Net]]:
    """Copies from along a `cascade`, evenly apart and short of its end, each with the part that was scrambled last."""
    parts = sum(1 for child in model.children() if any(True for _ in child.parameters()))
    wanted = {round(parts * (i + 1) / (count + 1)) for i in range(count)} - {parts}
    steps = enumerate(cascade(model, seed=seed), 1)
    return [(name, deepcopy(now)) for number, (name, now) in steps if number in wanted]


def _shuffle(parameter: torch.Tensor, rng: torch.Generator) -> None:
    flat = parameter.detach().reshape(-1)
    order = torch.randperm(flat.numel(), generator=rng).to(flat.device)
    parameter.copy_(flat[order].reshape(parameter.shape))
