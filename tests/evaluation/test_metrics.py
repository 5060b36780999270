"""The table of metrics: every row is told whole, and its numbers are scikit-learn's or a hand's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, jaccard_score, recall_score, roc_auc_score

from cmssd_core.evaluation import metrics
from cmssd_core.evaluation.figure import Figure, absent
from cmssd_core.evaluation.metrics import FIGURES, METRICS, PLACES, OfMasks, Part, figure, names_at, parts_at, score_map
from cmssd_core.evaluation.summary import plain, with_columns

SPACING_MM = (4.0, 1.5, 1.5)


def rows(n: int = 80, *, perfect: bool = False) -> pd.DataFrame:
    """Made-up answers, one row a case, each of its own patient."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 3 == 0
    p = label.astype(float) if perfect else 1 / (1 + np.exp(-(1.5 * label - 0.7 + rng.standard_normal(n))))
    truth = np.where(label, rng.uniform(5, 90, n), 0.0)
    found = truth if perfect else np.clip(truth + rng.normal(0, 8, n), 0, 100)
    scores = []
    for _ in range(n):
        mask = rng.random((4, 8, 8)) < 0.3
        seen = mask if perfect else mask ^ (rng.random(mask.shape) < 0.2)
        scores.append(score_map(seen, mask, SPACING_MM) | score_map(seen, mask, SPACING_MM, drawn="bone"))
    table = {
        "case_id": [f"c{i}" for i in range(n)], "patient_id": [f"p{i}" for i in range(n)], "maps": True,
        "malignant": label.astype(float), "p_malignant": p, "severity_pct": found, "severity_true": truth,
    }  # fmt: skip
    return with_columns(pd.concat([pd.DataFrame(table), pd.DataFrame(scores)], axis=1))


def test_every_metric_belongs_to_one_kind_of_task() -> None:
    listed = [name for names in FIGURES.values() for name in names]
    assert sorted(listed) == sorted(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_perfect_answers_reach_the_good_end_of_the_bounds(name: str) -> None:
    metric = METRICS[name]
    best = metric.bounds[1] if metric.better == "higher" else metric.bounds[0]
    assert figure(name, rows(perfect=True)).value == best


@pytest.mark.parametrize("name", METRICS)
def test_worse_answers_are_worse_and_stay_within_the_bounds(name: str) -> None:
    metric, found, best = METRICS[name], figure(name, rows()), figure(name, rows(perfect=True)).value
    assert found.value is not None
    assert found.value < best if metric.better == "higher" else found.value > best
    assert metric.bounds[0] <= found.low <= found.value <= found.high <= metric.bounds[1]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_figures_of_a_label_are_scikit_learns_at_any_threshold(threshold: float) -> None:
    table = rows()
    label, p = table["malignant"] == 1, table["p_malignant"]
    theirs = {
        "accuracy": accuracy_score(label, p >= threshold),
        "sensitivity": recall_score(label, p >= threshold),
        "specificity": recall_score(~label, p < threshold),
        "auc": roc_auc_score(label, p),
        "brier": brier_score_loss(label, p),
    }
    assert set(theirs) == set(FIGURES["class"])
    for name, value in theirs.items():
        assert figure(name, table, threshold=threshold).value == pytest.approx(value)
        moves = figure(name, table, threshold=threshold).value != figure(name, table, threshold=0.01).value
        assert moves == METRICS[name].at_threshold


def test_scores_of_a_map_are_scikit_learns_and_the_slow_ones_can_be_left_out() -> None:
    rng = np.random.default_rng(1)
    found, mask = rng.random((2, 4, 9, 9)) < 0.4
    scores = score_map(found, mask, SPACING_MM)
    assert scores["dice"] == pytest.approx(f1_score(mask.ravel(), found.ravel()))
    assert scores["iou"] == pytest.approx(jaccard_score(mask.ravel(), found.ravel()))
    assert score_map(found, mask, SPACING_MM, drawn="bone") == {"bone_dice": scores["dice"]}
    assert set(scores) - set(score_map(found, mask, SPACING_MM, slow=False)) == {"hd95_mm"}


def test_a_severity_that_is_missing_counts_as_the_worst_there_could_be() -> None:
    table = rows(4).assign(severity_true=[10.0, 80.0, 50.0, 30.0], severity_pct=[12.0, np.nan, 40.0, np.nan])
    table["maps"] = [True, True, True, False]  # the last case has no MRI: nothing was asked
    assert figure("severity_mae", table).value == pytest.approx((2 + 80 + 10) / 3)
    assert figure("severity_mae", table).n == 3


@pytest.mark.parametrize("name", METRICS)
def test_a_case_without_answer_or_truth_does_not_count_and_none_has_a_reason(name: str) -> None:
    table = rows(20)
    lacking = table.assign(
        malignant=np.nan, severity_true=np.nan, **{n: np.nan for n, m in METRICS.items() if isinstance(m.how, OfMasks)}
    )
    assert figure(name, lacking) == absent(METRICS[name].nothing)
    assert figure(name, pd.concat([table, lacking])) == figure(name, table)
    unanswered = table.assign(p_malignant=np.nan, malignant=1.0)
    if name in FIGURES["class"]:
        assert figure(name, unanswered).value is None


def test_a_place_shows_all_that_narrower_places_show() -> None:
    for narrow, wide in pairwise(PLACES):
        assert set(names_at(narrow)) < set(names_at(wide))
    assert names_at(PLACES[-1]) == tuple(METRICS)


def test_a_part_is_read_where_metrics_json_keeps_it() -> None:
    whole, few = Figure(0.9, 0.8, 0.95, 60), absent("no malignant case")
    told = {"dice": plain(whole), "malignant_only": {"dice": plain(few)}}
    assert (Part("dice").read(told), Part("dice", True).read(told)) == (whole, few)
    assert (Part("dice").key, Part("dice", True).key) == ("dice", "dice_malignant_only")
    keys = [part.key for part in parts_at("main")]
    assert keys[keys.index("dice") + 1] == "dice_malignant_only"
    assert "auc_malignant_only" not in keys


def test_a_name_bears_its_unit_once() -> None:
    assert METRICS["hd95_mm"].title == "95 % Hausdorff distance, mm"
    assert METRICS["hd95_mm"].heading == "HD95, mm"
    assert Part("severity_mae", True).heading == "Severity error, malignant cases, points"
    assert METRICS["accuracy"].heading == "Accuracy"


def test_what_is_no_mean_over_cases_has_no_value_of_a_case() -> None:
    assert metrics.each("auc", rows()) is None
    assert metrics.each("accuracy", rows(), threshold=0.5).mean() == figure("accuracy", rows()).value
