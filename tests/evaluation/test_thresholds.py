"""Thresholds, precision and recall, decision curves, bands and subgroups agree with scikit-learn and with a hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    precision_recall_curve,
    precision_score,
    recall_score,
    roc_curve,
)

from cmssd_core.evaluation import decision_curve, failures, precision_recall, roc, subgroups, thresholds


def scores(n: int = 200, *, seed: int = 0, lift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.3
    return label, 1 / (1 + np.exp(-(lift * label + rng.standard_normal(n) - 1)))


@st.composite
def labelled(draw) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 40))
    label = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    label[:2] = True, False
    p = draw(
        st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.500001, 0.9, 1.0]) | st.floats(0, 1), min_size=n, max_size=n)
    )
    return label, np.array(p)


@given(labelled(), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_four_cells_are_scikit_learns(data, threshold):
    label, p = data
    told = thresholds.judge(label, thresholds.call_malignant(p, threshold))
    tn, fp, fn, tp = confusion_matrix(label, p >= threshold).ravel()
    assert (told.tn, told.fp, told.fn, told.tp) == (tn, fp, fn, tp)
    assert told.sensitivity.value == recall_score(label, p >= threshold)
    if tp + fp:
        assert told.ppv.value == precision_score(label, p >= threshold)
    else:
        assert told.ppv.value is None
        assert told.ppv.reason


def test_youdens_threshold_gives_the_largest_balanced_accuracy_there_is():
    label, p = scores()
    found = balanced_accuracy_score(label, p >= thresholds.youden(label, p))
    fpr, tpr, _ = roc_curve(label, p, drop_intermediate=False)
    assert found == pytest.approx((tpr - fpr).max() / 2 + 0.5)


@given(labelled(), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_a_fixed_sensitivity_is_reached_at_the_least_price(data, wanted):
    label, p = data
    threshold = thresholds.for_sensitivity(label, p, wanted=wanted)
    assert recall_score(label, p >= threshold) >= wanted - 1e-9
    higher = [t for t in np.unique(p) if t > threshold and (p >= t).sum() < (p >= threshold).sum()]
    assert all(recall_score(label, p >= t) < wanted for t in higher)


@given(labelled(), st.sampled_from([0.1, 0.5, 1.0, 3.0, 10.0, 1000.0]))
@settings(max_examples=60, deadline=None)
def test_no_threshold_costs_less_than_the_one_chosen_by_cost(data, ratio):
    label, p = data

    def cost(positive: np.ndarray) -> float:
        return (positive & ~label).sum() + ratio * (~positive & label).sum()

    found = cost(p >= thresholds.for_cost(label, p, ratio=ratio))
    assert found <= min(cost(p >= t) for t in (*np.unique(p), 2.0)) + 1e-9


@given(labelled())
@settings(max_examples=60, deadline=None)
def test_each_step_calls_the_cases_it_counts_also_where_p_are_neighbours_in_floating_point(data):
    label, p = data
    p = np.append(p, [0.3, np.nextafter(0.3, 1)])
    label = np.append(label, [True, False])
    edges, tp, fp = thresholds._steps(label, p)
    for edge, positive, false in zip(edges, tp, fp, strict=True):
        assert (positive, false) == (((p >= edge) & label).sum(), ((p >= edge) & ~label).sum())


def test_a_threshold_needs_both_classes():
    with pytest.raises(ValueError, match="both classes"):
        thresholds.youden(np.ones(5, dtype=bool), np.linspace(0, 1, 5))


def test_a_rule_judged_on_its_own_cases_flatters_itself_without_skill():
    """With scores that mean nothing Youden's rule finds skill in small samples; held out it finds none."""
    own, out = [], []
    for seed in range(30):
        label, p = scores(60, seed=seed, lift=0.0)
        judged = thresholds.judge(label, thresholds.call_malignant(p, thresholds.youden(label, p)))
        found = thresholds.held_out(label, p, thresholds.youden)
        assert found is not None
        own.append(judged.sensitivity.value + judged.specificity.value - 1)
        out.append(found[0].sensitivity.value + found[0].specificity.value - 1)
    assert np.mean(own) > 0.15
    assert abs(np.mean(out)) < 0.08


def test_the_cases_of_one_patient_are_never_in_both_parts_of_a_held_out_judgement():
    label, p = scores(40)
    label, p, who = np.repeat(label, 3), np.repeat(p, 3), np.repeat([f"p{i}" for i in range(40)], 3)
    seen: list[set[float]] = []

    def rule(some: np.ndarray, values: np.ndarray) -> float:
        seen.append(set(values.tolist()))
        return 0.5

    assert thresholds.held_out(label, p, rule, who) is not None
    every = set(p.tolist())
    for chosen in seen:
        outside = [value for value in p.tolist() if value not in chosen]
        assert outside  # the patients judged
        assert not set(outside) & chosen
        assert chosen < every


def test_too_few_patients_of_a_class_are_not_judged_held_out():
    label = np.arange(30) < 4
    assert thresholds.held_out(label, label.astype(float), thresholds.youden) is None


@given(labelled())
@settings(max_examples=60, deadline=None)
def test_average_precision_is_scikit_learns(data):
    label, p = data
    assert precision_recall.average(label, p) == pytest.approx(average_precision_score(label, p))


def test_the_precision_recall_points_are_scikit_learns():
    label, p = scores()
    p = np.round(p, 2)
    precision, recall, _ = precision_recall_curve(label, p)
    ours = np.array(precision_recall.points(label, p))
    assert np.allclose(ours, np.stack([recall, precision], axis=1)[-2::-1])


def test_average_precision_says_its_doubt_or_that_there_is_none_to_say():
    label, p = scores()
    found = precision_recall.average_precision(label, p)
    assert found.low < found.value < found.high
    assert precision_recall.average_precision(label, label.astype(float)).low is None
    assert precision_recall.average_precision(np.zeros(9, dtype=bool), np.linspace(0, 1, 9)).value is None


def test_net_benefit_is_what_a_hand_gets():
    label = np.array([True, True, False, False, False])
    p = np.array([0.9, 0.2, 0.6, 0.1, 0.1])
    found = decision_curve.net_benefit(label, p, np.array([0.2, 0.5, 0.95]))
    assert found == pytest.approx([2 / 5 - 1 / 5 * 0.2 / 0.8, 1 / 5 - 1 / 5, 0.0])
    told = decision_curve.curve(label, p, thresholds=np.array([0.5]))
    assert told.treat_all == pytest.approx([2 / 5 - 3 / 5])
    assert told.low is None  # five patients


@given(labelled())
@settings(max_examples=40, deadline=None)
def test_net_benefit_agrees_with_the_confusion_matrix_at_every_threshold(data):
    label, p = data
    at = np.array([0.01, 0.1, 0.25, 0.5, 0.9])
    for threshold, found in zip(at, decision_curve.net_benefit(label, p, at), strict=True):
        _, fp, _, tp = confusion_matrix(label, p >= threshold).ravel()
        assert found == pytest.approx(tp / len(p) - fp / len(p) * threshold / (1 - threshold))


def test_repeating_every_patient_leaves_the_band_of_the_decision_curve_as_wide_as_it_was():
    label, p = scores(100)
    once = decision_curve.curve(label, p)
    thrice = decision_curve.curve(np.repeat(label, 3), np.repeat(p, 3), np.repeat(np.arange(100).astype(str), 3))
    widths = [np.subtract(found.high, found.low)[10:60].mean() for found in (once, thrice)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_the_band_holds_the_roc_curve_and_nineteen_of_twenty_true_sensitivities():
    label, p = scores(400)
    found = roc.band(label, p)
    fpr, tpr, _ = roc_curve(label, p)
    ours = np.interp(found.fpr, fpr, tpr)
    assert (np.array(found.low) <= ours + 0.02).all()
    assert (ours - 0.02 <= np.array(found.high)).all()
    big_label, big_p = scores(200_000, seed=99)
    true_fpr, true_tpr, _ = roc_curve(big_label, big_p)
    at = [10, 20, 50]
    hits = []
    for seed in range(40):
        band = roc.band(*scores(150, seed=seed + 1), resamples=200)
        for i in at:
            truth = np.interp(band.fpr[i], true_fpr, true_tpr)
            hits.append(band.low[i] <= truth <= band.high[i])
    assert np.mean(hits) > 0.9


def test_a_perfect_curve_has_a_band_all_the_same():
    label = np.arange(40) < 12
    found = roc.band(label, label + np.linspace(0, 0.1, 40))
    assert found.low[0] == pytest.approx(12 / (12 + 1.959964**2), abs=1e-6)  # Wilson's for 12 of 12
    assert roc.band(label[:15], np.linspace(0, 1, 15)) is None


def rows(n: int = 60) -> pd.DataFrame:
    label, p = scores(n)
    return pd.DataFrame(
        {
            "case_id": [f"c{i:03d}" for i in range(n)],
            "patient_id": [f"p{i:03d}" for i in range(n)],
            "malignant": label.astype(float),
            "p_malignant": p,
            "dice": np.linspace(0, 1, n),
            "hd95_mm": np.linspace(9, 0, n),
            "severity_error": np.linspace(3, 0, n),
            "sex": ["f", "m"] * (n // 2),
            "centre": ["big"] * (n - 6) + ["small"] * 6,
            "age_years": np.linspace(5, 70, n),
        }
    )


def test_a_small_group_says_too_few_and_a_big_one_its_interval():
    table = rows()
    told = subgroups.by_group(table, subgroups.groups(table)["centre"], "accuracy", threshold=0.5)
    assert told["small"].reason == "too few"
    assert (told["small"].value, told["small"].n) == (None, 6)
    assert told["big"].low < told["big"].value < told["big"].high
    hits = ((table["p_malignant"] >= 0.5) == (table["malignant"] == 1))[:-6]
    assert told["big"].value == pytest.approx(hits.mean())


def test_a_group_is_too_few_for_a_sensitivity_where_its_malignant_cases_are():
    table = rows()
    table.loc[table["sex"] == "f", "malignant"] = [1.0] * 9 + [0.0] * 21
    told = subgroups.by_group(table, subgroups.groups(table)["sex"], "sensitivity", threshold=0.5)
    assert told["f"].reason == "too few"
    assert told["f"].n == 9


def test_ages_fall_into_bands_and_one_value_is_no_group():
    table = rows().assign(field_t=3.0)
    found = subgroups.groups(table)
    assert "field_t" not in found
    assert list(found["age"]) == ["0 to 10", "10 to 20", "20 to 40", "40 to 60", "60 and more"]
    assert sum(kept.sum() for kept in found["age"].values()) == len(table)


def test_the_surest_mistakes_come_first_and_hits_not_at_all():
    table = pd.DataFrame(
        {"case_id": list("abcde"), "malignant": [1, 1, 0, 0, np.nan], "p_malignant": [0.4, 0.01, 0.7, 0.2, 0.9]}
    )
    assert failures.sure_and_wrong(table, threshold=0.5)["case_id"].tolist() == ["b", "c", "a"]
    assert failures.sure_and_wrong(table, threshold=0.3)["case_id"].tolist() == ["b", "c"]


def test_the_worst_maps_are_the_smallest_dice_and_the_longest_distance():
    table = rows()
    table.loc[0, "dice"] = np.nan
    assert failures.worst(table, "dice", most=2)["case_id"].tolist() == ["c001", "c002"]
    assert failures.worst(table, "hd95_mm", most=1)["case_id"].tolist() == ["c000"]


def test_a_rule_with_a_setting_is_judged_held_out_like_any_other():
    label, p = scores(100)
    found = thresholds.held_out(label, p, partial(thresholds.for_sensitivity, wanted=0.9))
    assert found is not None
    assert found[1][0] <= found[1][1]
