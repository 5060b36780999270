"""Exact Shapley share of each modality in one answer: all 2^n coalitions, a missing one as the model knows missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import factorial

import torch

from cmssd_core.cases.collate import hide_modalities
from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.models.base import Model
from cmssd_core.types import Batch, InputError

Coalition = frozenset[str]

#: What the model is given where a coalition lacks a modality it cannot do without: the value of every pixel, in words.
BLANKS = {"mri": (0.0, "an MRI without any contrast (all zeros)"), "he": (1.0, "empty glass (white patches)")}


@dataclass(frozen=True)
class ModalityShares:
    """The logit of malignancy of one case, split among its modalities.

    values: what the model says of each coalition. phi: Shapley value by modality, in logits; they sum to `gap`, the
    answer to all minus the answer to none. share: abs(phi) as a part of their sum, None where all are 0. interaction:
    v(ij) - v(i) - v(j) + v() of each pair, the others absent: below 0 where both say the same thing twice, above 0
    where they say more together. baseline: what stood for a missing modality, in words.
    """

    values: Mapping[Coalition, float]
    phi: Mapping[str, float]
    share: Mapping[str, float] | None
    interaction: Mapping[tuple[str, str], float]
    baseline: str

    @property
    def gap(self) -> float:
        """The answer given everything minus the answer given nothing."""
        return self.values[frozenset(self.phi)] - self.values[frozenset()]


def shapley(values: Mapping[Coalition, float]) -> dict[str, float]:
    """Shapley value of each player of a game given by all its 2^n coalitions (L. S. Shapley, 1953).

    phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)). Raises ValueError where a coalition is
    missing.
    """
    players = sorted(frozenset().union(*values))
    n = len(players)
    if len(values) != 2**n:
        raise ValueError(f"a game of {n} players has {2**n} coalitions, got {len(values)}; give every one once")
    return {
        i: sum(
            factorial(len(s)) * factorial(n - len(s) - 1) / factorial(n) * (values[s | {i}] - values[s])
            for s in values
            if i not in s
        )
        for i in players
    }


def interactions(values: Mapping[Coalition, float]) -> dict[tuple[str, str], float]:
    """v(ij) - v(i) - v(j) + v() of each pair, the others absent."""
    players = sorted(frozenset().union(*values))
    empty: Coalition = frozenset()
    return {
        (i, j): values[frozenset({i, j})] - values[frozenset({i})] - values[frozenset({j})] + values[empty]
        for i, j in combinations(players, 2)
    }


def modality_shares(
    model: Model, batch: Batch, *, before_each: Callable[[float], None] | None = None
) -> ModalityShares:
    """Exact shares of the modalities in the malignancy logit (before calibration) of a batch of one case.

    2^n forwards of the model itself. A missing modality is the model's own missing-modality input, with which it was
    trained; where the model refuses a coalition (none at all, or without what it needs) it gets BLANKS instead, and
    the baseline says so. Severity has no such split: without an MRI there is none. before_each(share done) is called
    before each forward. Raises InputError for a batch of several cases. Hold the model's lock, and call eval() first.
    """
    if len(batch.ids) != 1:
        raise InputError(f"shares of {len(batch.ids)} cases at once came, expected one case; ask for one at a time")
    if "malignant" not in model.tasks:
        raise InputError("shares of modalities are shares in the logit of malignancy, which this model does not judge")
    players = [name for name in model.needs if bool(batch.present[name].all())]
    coalitions = [frozenset(chosen) for size in range(len(players) + 1) for chosen in combinations(players, size)]
    values: dict[Coalition, float] = {}
    blanked: dict[str, list[str]] = {}
    with torch.no_grad():
        for done, coalition in enumerate(coalitions):
            if before_each is not None:
                before_each(done / len(coalitions))
            blank = _blank(model, players, coalition)
            for name in blank:
                blanked.setdefault(name, []).append(
                    " and ".join(MODALITIES[p].label for p in players if p in coalition)
                )
            given = _given(model, batch, coalition, blank)
            values[coalition] = float(model(given).heads["malignant"][0].double())
    phi = shapley(values)
    total = sum(abs(value) for value in phi.values())
    share = {name: abs(value) / total for name, value in phi.items()} if total > 0 else None
    words = ["a missing modality is the model's own missing input"]
    for name, whens in blanked.items():
        when = " and ".join("with nothing" if not given else f"with the {given} alone" for given in whens)
        words.append(f"{when}, which the model refuses, it gets {BLANKS[name][1]}")
    if blanked:
        words.append("such a blank is unlike anything in training, so read the order of the shares, not their size")
    return ModalityShares(values, phi, share, interactions(values), "; ".join(words))


def _blank(model: Model, players: list[str], coalition: Coalition) -> tuple[str, ...]:
    """The modalities that must be there for the model to answer, and are not in the coalition."""
    must = [name for name in players if name not in model.optional and name not in coalition]
    blank = tuple(must or (players[:1] if not coalition else ()))
    for name in blank:
        if name not in BLANKS:
            raise InputError(
                f"shares are not offered for {MODALITIES[name].label}, which this model cannot do without: nothing "
                "stands for its absence"
            )
    return blank


def _given(model: Model, batch: Batch, coalition: Coalition, blank: tuple[str, ...]) -> Batch:
    hidden = [name for name in batch.inputs if name not in coalition and name not in blank]
    kept = hide_modalities(batch, model.spec, *hidden)
    inputs = {name: torch.full_like(x, BLANKS[name][0]) if name in blank else x for name, x in kept.inputs.items()}
    return replace(kept, inputs=inputs)
