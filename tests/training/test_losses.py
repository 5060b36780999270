"""Losses by kind of task: each against a computation by hand or scikit-learn's; what is unknown teaches nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import PAIR, random_batch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss, mean_squared_error
from torch import Tensor

from cmssd_core.tasks.kinds import Question, Targets
from cmssd_core.tasks.maps import focal_bce, soft_dice_loss
from cmssd_core.tasks.table import KINDS, TASKS
from cmssd_core.training.losses import WEIGHTS, LossSettings, sum_losses, terms_of
from cmssd_core.types import Batch, ModelOutput

PLAIN = LossSettings(focal_gamma=0.0)
NAN = torch.nan


def terms(
    heads: dict[str, Tensor],
    targets: Targets,
    *,
    batch: Batch | None = None,
    cases: int | None = None,
    settings: LossSettings = PLAIN,
) -> dict[str, Tensor]:
    size = len(next(iter(heads.values())))
    shown = random_batch(PAIR, cases=size, px=8, slices=2, patches=1) if batch is None else batch
    return sum_losses(ModelOutput(heads=heads), targets, shown, extra={}, settings=settings, cases=cases)


def test_focal_loss_without_the_factor_is_cross_entropy() -> None:
    logits, target = torch.randn(50), (torch.rand(50) > 0.5).float()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    torch.testing.assert_close(focal_bce(logits, target, gamma=0.0), plain)


def test_the_focal_factor_moves_weight_from_easy_to_hard() -> None:
    logits, target = torch.tensor([[4.0, -1.0]]), torch.tensor([[1.0, 1.0]])  # one case: easy, hard
    plain, focal = focal_bce(logits, target, gamma=0.0)[0], focal_bce(logits, target, gamma=2.0)[0]
    assert float(focal[1] / focal[0]) > float(plain[1] / plain[0]) * 100


def test_dice_loss_is_zero_where_both_are_empty_and_where_both_agree() -> None:
    empty, full = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    assert float(soft_dice_loss(empty, empty)) == 0.0
    assert float(soft_dice_loss(full, full)) == pytest.approx(0.0)
    assert float(soft_dice_loss(empty, full)) == pytest.approx(1 - 1 / 17)


def test_a_maps_terms_are_scikit_learns_log_loss_and_dice() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 8, 8, generator=rng)
    mask = (torch.rand(1, 2, 8, 8, generator=rng) > 0.6).float()
    found = terms({"bone": logits}, Targets(masks={"bone": mask}))
    flat = mask.flatten().numpy()
    assert float(found["bone"]) == pytest.approx(log_loss(flat, logits.sigmoid().flatten().double().numpy()), rel=1e-5)
    # Soft Dice of a map that is sure of everything is Dice; the 1 above and below shrinks with the size.
    sure = torch.where(torch.rand(1, 2, 8, 8, generator=rng) > 0.5, 50.0, -50.0)
    dice = float(1 - soft_dice_loss(sure.sigmoid(), mask))
    both = flat.sum() + float((sure > 0).sum())
    by_hand = (f1_score(flat, (sure > 0).flatten().numpy()) * both + 1) / (both + 1)
    assert dice == pytest.approx(by_hand, rel=1e-5)


def test_a_map_counts_only_cases_that_have_the_volume_and_the_mask_on_slices_that_are_real() -> None:
    batch = random_batch(PAIR, cases=3, px=8, slices=2, patches=1)
    valid = batch.valid["mri"].clone()
    valid[0, 1] = False
    batch = replace(batch, valid={**batch.valid, "mri": valid})
    batch = replace(batch, present={**batch.present, "mri": torch.tensor([True, True, False])})
    mask = torch.ones(3, 2, 8, 8)
    mask[1] = NAN  # has no mask
    logits = torch.zeros(3, 2, 8, 8)
    logits[0, 1], logits[1], logits[2] = 99.0, 5.0, 7.0  # padding, no truth, no volume
    found = terms({"bone": logits}, Targets(masks={"bone": mask}), batch=batch)
    assert float(found["bone"]) == pytest.approx(math.log(2) / 3, rel=1e-6)
    assert float(found["dice"]) == pytest.approx((1 - (64 + 1) / (32 + 64 + 1)) / 3, rel=1e-5)


def test_the_overlap_of_a_tumour_counts_once_where_its_lesion_is_drawn() -> None:
    maps = {name: torch.randn(2, 2, 8, 8) for name in ("tumour", "lesion")}
    masks = {name: torch.ones(2, 2, 8, 8) for name in maps}
    lesion = float(terms({"lesion": maps["lesion"]}, Targets(masks=masks))["dice"])
    assert float(terms(maps, Targets(masks=masks))["dice"]) == pytest.approx(lesion)
    alone = float(terms({"tumour": maps["tumour"]}, Targets(masks=masks))["dice"])
    untaught = float(terms(maps, Targets(masks={"tumour": masks["tumour"]}))["dice"])
    assert untaught == pytest.approx(alone)


def test_a_classs_term_is_scikit_learns_log_loss_over_the_labelled() -> None:
    logits, label = torch.tensor([0.3, -1.2, 2.0, 9.0]), torch.tensor([1.0, 0.0, 0.0, NAN])
    found = terms({"malignant": logits}, Targets(labels={"malignant": label}))
    known = log_loss(label[:3].numpy(), logits[:3].sigmoid().double().numpy())
    assert float(found["malignant"]) == pytest.approx(known * 3 / 4, rel=1e-6)


def test_a_numbers_term_is_the_squared_error_in_units_of_its_scale() -> None:
    value, truth = torch.tensor([30.0, 80.0, NAN, 5.0]), torch.tensor([10.0, 75.0, 50.0, NAN])
    found = terms({"severity_pct": value.requires_grad_()}, Targets(labels={"severity_pct": truth}))
    by_hand = mean_squared_error([0.1, 0.75], [0.3, 0.8]) * 2 / 4
    assert float(found["severity"]) == pytest.approx(by_hand, rel=1e-6)
    found["severity"].backward()
    assert bool(value.grad.isfinite().all())
    assert value.grad[2:].tolist() == [0.0, 0.0]


def test_survivals_term_is_coxs_partial_likelihood_with_efrons_ties_by_hand() -> None:
    """Two of five die in month 4: Efron takes half of the two from the second one's risk set."""
    risk = [0.5, -0.3, 1.1, 0.2, -0.9]
    time = torch.tensor([4.0, 4.0, 2.0, 7.0, 9.0])
    event = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    h = np.exp(risk)
    first = risk[2] - math.log(h.sum())  # month 2: all five are at risk
    rest = h[0] + h[1] + h[3] + h[4]  # month 4: the other four
    tied = risk[0] + risk[1] - math.log(rest) - math.log(rest - (h[0] + h[1]) / 2)
    by_hand = -(first + tied) / 3
    heads = {"risk": torch.tensor(risk)}
    assert float(terms(heads, Targets(time_months=time, event=event))["risk"]) == pytest.approx(by_hand, rel=1e-5)
    moved = {"risk": torch.tensor(risk) + 3.0}  # a constant in every hazard says nothing
    assert float(terms(moved, Targets(time_months=time, event=event))["risk"]) == pytest.approx(by_hand, rel=1e-4)


def test_who_was_not_followed_is_in_nobodys_risk_set() -> None:
    time, event = torch.tensor([2.0, 5.0, NAN]), torch.tensor([1.0, 0.0, NAN])
    risk = torch.tensor([0.4, -0.2, 9.0], requires_grad=True)
    found = terms({"risk": risk}, Targets(time_months=time, event=event))
    by_hand = -(0.4 - math.log(math.exp(0.4) + math.exp(-0.2)))
    assert float(found["risk"]) == pytest.approx(by_hand * 2 / 3, rel=1e-5)
    found["risk"].backward()
    assert float(risk.grad[2]) == 0.0


@pytest.mark.parametrize(
    "targets",
    [
        Targets(time_months=torch.tensor([2.0, 5.0]), event=torch.zeros(2)),
        Targets(time_months=torch.tensor([2.0, NAN]), event=torch.tensor([1.0, NAN])),
        Targets(),
    ],
)
def test_without_an_event_and_somebody_to_compare_with_survival_has_no_term(targets: Targets) -> None:
    found = terms({"risk": torch.tensor([0.5, 0.1])}, targets)
    assert set(found) == {"total"}


def test_a_batch_that_teaches_nothing_has_a_total_of_nothing_that_can_be_followed_back() -> None:
    found = terms({"malignant": torch.randn(2, requires_grad=True)}, Targets())
    assert set(found) == {"total"}
    assert float(found["total"]) == 0.0
    found["total"].backward()


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    heads = {"malignant": torch.tensor([0.3, -1.0]), "severity_pct": torch.tensor([30.0, 10.0])}
    labels = {"malignant": torch.tensor([1.0, 1.0]), "severity_pct": torch.tensor([10.0, 20.0])}
    plain = terms(heads, Targets(labels=labels))
    assert float(plain["total"]) == pytest.approx(float(plain["malignant"] + WEIGHTS["severity"] * plain["severity"]))
    own = terms(heads, Targets(labels=labels), settings=LossSettings(weights={"malignant": 0.5, "severity": 0.0}))
    assert float(own["total"]) == pytest.approx(0.5 * float(plain["malignant"]))
    more = sum_losses(
        ModelOutput(heads=heads), Targets(labels=labels), random_batch(PAIR, px=8),
        extra={"gate": torch.tensor(1.5)}, settings=PLAIN,
    )  # fmt: skip
    assert float(more["total"]) == pytest.approx(float(plain["total"]) + WEIGHTS["gate"] * 1.5)


@given(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=4, max_size=4), st.integers(1, 3))
def test_a_step_in_parts_is_the_step(labels: list[float], cut: int) -> None:
    logits, label = torch.tensor([0.5, -1.0, 2.0, 0.1]), torch.tensor(labels)

    def term(part: slice) -> float:
        found = terms({"malignant": logits[part]}, Targets(labels={"malignant": label[part]}), cases=4)
        return float(found["malignant"])

    assert term(slice(0, cut)) + term(slice(cut, 4)) == pytest.approx(term(slice(0, 4)), abs=1e-6)


def test_a_models_terms_are_those_of_its_tasks_and_of_the_maps_it_may_be_taught() -> None:
    assert terms_of(("malignant",), ()) == ("malignant",)
    assert terms_of(("risk",), ()) == ("risk",)
    assert terms_of(("tumour",), ("own",)) == ("tumour", "bone", "lesion", "destruction", "dice", "own")


def test_there_are_four_kinds_and_every_task_is_of_one() -> None:
    assert set(KINDS) == {"map", "class", "number", "survival"}
    assert {task.kind.name for task in TASKS.values()} == set(KINDS)
    assert all(name == task.name for name, task in TASKS.items())
    assert len({task.term for task in TASKS.values()}) == len(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_without_its_truth_has_no_term(name: str) -> None:
    task = TASKS[name]
    head = torch.zeros(2, 2, 8, 8) if task.kind.name == "map" else torch.zeros(2)
    asked = Question(
        batch=random_batch(PAIR, px=8, slices=2), targets=Targets(), drawn={name: head}, focal_gamma=0.0, cases=2
    )
    assert task.kind.loss(task, head, asked) == {}
