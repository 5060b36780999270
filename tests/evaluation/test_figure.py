"""Figures agree with scikit-learn, MONAI, published tables and what a hand gets."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou
from scipy.optimize import minimize
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from cmssd_core.evaluation import agreement, calibration, distance, figure, overlap, roc
from cmssd_core.evaluation.figure import absent, format_number, mean, share


def scores(n: int = 200, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.3
    return label, 1 / (1 + np.exp(-(1.5 * label + rng.standard_normal(n) - 1)))


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    found = share(np.arange(20) < 18)
    assert (found.value, found.n) == (0.9, 20)
    assert found.low == pytest.approx(0.699, abs=1e-3)
    assert found.high == pytest.approx(0.972, abs=1e-3)


def test_a_loss_of_nobody_has_wilsons_doubt_both_ways() -> None:
    right = np.ones(20, dtype=bool)
    none = figure.loss(right, right)
    upper = binomtest(0, 20).proportion_ci(method="wilson").high
    assert (none.value, none.n) == (0.0, 20)
    assert none.low == pytest.approx(-upper)
    assert none.high == pytest.approx(upper)
    two_rows_each = figure.loss(right, right, np.repeat(np.arange(10), 2))
    assert two_rows_each.high == pytest.approx(binomtest(0, 10).proportion_ci(method="wilson").high)


def test_a_loss_counts_what_was_gained_against_it() -> None:
    before, after = np.array([True] * 6 + [False] * 4), np.array([False] * 2 + [True] * 5 + [False] * 3)
    found = figure.loss(before, after)
    assert found.value == pytest.approx((2 - 1) / 10)
    assert found.low is not None
    assert found.low < 0.1 < found.high
    assert figure.loss(before[:0], after[:0]).value is None


def test_too_few_patients_get_no_interval() -> None:
    assert mean(np.arange(7.0)).low is None
    assert mean(np.arange(20.0), ["a", "b"] * 10).low is None
    assert mean(np.array([])) == absent("no case has this value")


def test_a_patient_with_many_cases_counts_as_one_in_the_interval() -> None:
    rng = np.random.default_rng(0)
    of_patient = rng.standard_normal(20)
    values, who = np.repeat(of_patient, 10), [f"p{i}" for i in np.repeat(np.arange(20), 10)]
    naive, clustered = mean(values), mean(values, who)
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)
    expected = of_patient.std() / np.sqrt(20) * 2 * 1.96
    assert clustered.high - clustered.low == pytest.approx(expected, rel=0.15)


def test_all_right_of_repeated_patients_is_as_sure_as_so_many_patients() -> None:
    who = [f"p{i // 5}" for i in range(100)]
    for right in (True, False):
        found, twenty = share(np.full(100, right), who), share(np.full(20, right))
        assert (found.value, found.n) == (float(right), 100)
        assert (found.low, found.high) == (twenty.low, twenty.high)
    assert share(np.full(100, True), [f"p{i // 20}" for i in range(100)]).low is None  # five patients


def test_resamples_are_drawn_some_at_a_time_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).standard_normal(3000)
    drawn = np.random.default_rng(0).multinomial(3000, np.full(3000, 1 / 3000), 50)
    monkeypatch.setattr(figure, "RESAMPLES", 50)
    monkeypatch.setattr(figure, "AT_ONCE", 3000 * 7)
    tracemalloc.start()
    found = mean(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn @ values / 3000, (2.5, 97.5)), rel=1e-12)
    assert peak < drawn.nbytes


def test_the_area_is_scikit_learns_with_ties_too() -> None:
    label, p = scores()
    for score in (p, np.round(p, 1)):
        assert roc.area(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_delongs_variance_is_that_of_its_definition() -> None:
    label, p = scores(60)
    pairs = np.greater.outer(p[label], p[~label]).astype(float)  # the definition, pair by pair
    m, n = pairs.shape
    se = np.sqrt(pairs.mean(1).var(ddof=1) / m + pairs.mean(0).var(ddof=1) / n)
    value = pairs.mean()
    found = roc.auc(label, p)
    logit = np.log(value / (1 - value))
    assert found.low == pytest.approx(1 / (1 + np.exp(-(logit - 1.959964 * se / (value * (1 - value))))), abs=1e-6)
    assert 0 < found.low < value < found.high < 1


def test_a_perfect_area_still_has_doubt() -> None:
    label = np.arange(30) < 10
    found = roc.auc(label, label.astype(float))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 10))
    assert roc.auc(label, -label.astype(float)).high < 1


def test_a_perfect_area_of_repeated_patients_is_as_sure_as_the_smaller_class_has_patients() -> None:
    label, who = np.arange(90) < 30, [f"p{i // 3}" for i in range(90)]
    found = roc.auc(label, label.astype(float), who)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 10))
    assert roc.auc(label, label.astype(float), [f"p{i // 6}" for i in range(90)]).low is None  # five malignant patients


@pytest.mark.parametrize("who", [None, [f"p{i // 3}" for i in range(90)]])
def test_a_constant_score_has_an_area_and_no_interval(who: list[str] | None) -> None:
    label = np.arange(90) < 45
    found = roc.auc(label, np.full(90, 0.3), who)
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert "the same score" in str(found.reason)
    apart = roc.difference(label, label.astype(float), np.full(90, 0.3), who)
    assert (apart.value, apart.low, apart.high, apart.p) == (0.5, None, None, None)
    assert "no test" in str(apart.reason)


def test_delongs_paired_test_agrees_with_the_bootstrap_and_sees_no_difference_with_itself() -> None:
    label, p = scores(400)
    other = p + 0.15 * np.random.default_rng(3).standard_normal(400)
    found = roc.difference(label, p, other)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(1000):
        i = np.concatenate(
            [rng.choice(np.flatnonzero(label), label.sum()), rng.choice(np.flatnonzero(~label), (~label).sum())]
        )
        draws.append(roc_auc_score(label[i], p[i]) - roc_auc_score(label[i], other[i]))
    assert found.value == pytest.approx(roc_auc_score(label, p) - roc_auc_score(label, other))
    assert found.high - found.value == pytest.approx(1.96 * np.std(draws), rel=0.1)
    same = roc.difference(label, p, p)
    assert (same.value, same.p) == (0.0, 1.0)


def test_the_curve_goes_through_scikit_learns_corners() -> None:
    label, p = scores()
    p = np.round(p, 2)
    fpr, tpr, _ = roc_curve(label, p)
    found = roc.curve(label, p)
    theirs = set(zip(fpr.round(9), tpr.round(9), strict=True))  # with points on straight parts, which ours leaves out
    assert {(round(x, 9), round(y, 9)) for x, y in found} <= theirs
    assert np.trapezoid([y for _, y in found], [x for x, _ in found]) == pytest.approx(roc_auc_score(label, p))
    assert roc.curve(np.ones(3, bool), np.arange(3.0)) == []


def test_mcnemar_is_the_exact_binomial_of_the_discordant_pairs() -> None:
    one, other = np.array([True] * 10 + [False] * 2 + [True] * 5), np.array([False] * 10 + [True] * 7)
    found = roc.mcnemar(one, other)
    assert (found.only_first, found.only_second, found.n) == (10, 2, 17)
    assert found.p == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert roc.mcnemar(one, one).p == 1.0


def test_mcnemar_is_not_made_of_several_cases_a_patient() -> None:
    one, other = np.arange(20) < 15, np.arange(20) < 5
    found = roc.mcnemar(one, other, [f"p{i // 2}" for i in range(20)])
    assert (found.only_first, found.only_second, found.n, found.p) == (10, 0, 20, None)
    assert "several cases" in str(found.reason)
    assert roc.mcnemar(one, other, [f"p{i}" for i in range(20)]).p == roc.mcnemar(one, other).p


def masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:8, :32, :32]
    centre = rng.uniform(10, 22, (2, 2))
    both = [((y - cy) ** 2 + (x - cx) ** 2 + 9 * (z - 4) ** 2) < rng.uniform(20, 80) for cy, cx in centre]
    return both[0], both[1]


@pytest.mark.parametrize("seed", range(6))
def test_overlap_and_surface_distance_are_monais(seed: int) -> None:
    one, other = masks(seed)
    a, b = (torch.tensor(m[None, None].astype(np.float32)) for m in (one, other))
    spacing = (4.5, 1.5, 1.2)
    theirs = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
    assert overlap.hd95(one, other, spacing) == pytest.approx(float(theirs), rel=1e-5)
    assert overlap.dice(one, other) == pytest.approx(float(compute_dice(a, b)))
    assert overlap.iou(one, other) == pytest.approx(float(compute_iou(a, b)))


def test_an_empty_mask_is_never_left_out() -> None:
    none, some = np.zeros((4, 30, 40), bool), np.zeros((4, 30, 40), bool)
    some[1, 3, 3] = True
    assert (overlap.dice(none, none), overlap.iou(none, none), overlap.hd95(none, none, (1, 1, 1))) == (1.0, 1.0, 0.0)
    assert (overlap.dice(none, some), overlap.iou(some, none)) == (0.0, 0.0)
    assert overlap.hd95(none, some, (2, 1, 1)) == pytest.approx(np.sqrt(8**2 + 30**2 + 40**2))


def test_icc_is_that_of_shrout_and_fleiss() -> None:
    judges = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
    assert agreement.icc_a1(judges) == pytest.approx(0.29, abs=5e-3)  # their table 4, ICC(2,1)


def test_bland_and_altmans_limits_by_hand() -> None:
    truth = np.arange(10.0)
    found = agreement.bland_altman(truth + np.tile([1.0, 3.0], 5), truth)
    deviation = np.sqrt(10 / 9)
    assert found.bias.value == 2.0
    assert found.upper.value == pytest.approx(2 + 1.96 * deviation, abs=1e-3)
    assert found.upper.high - found.upper.value == pytest.approx(1.96 * np.sqrt(3 / 10) * deviation, abs=1e-3)


def test_reliability_and_brier_are_scikit_learns() -> None:
    label, p = scores(500)
    share_of, mean_p = calibration_curve(label, p, n_bins=10, strategy="uniform")
    table = calibration.reliability(label, p)
    assert [b.mean_p for b in table] == pytest.approx(mean_p)
    assert [b.malignant.value for b in table] == pytest.approx(share_of)
    counts = np.array([b.malignant.n for b in table])
    assert calibration.expected_error(label, p) == pytest.approx((counts * np.abs(share_of - mean_p)).sum() / 500)
    assert mean((p - label) ** 2).value == pytest.approx(brier_score_loss(label, p))


def test_calibration_slope_is_that_of_a_logistic_regression() -> None:
    label, p = scores(500)
    logits = np.log(p / (1 - p))
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], label)
    slope, intercept = calibration.slope(label, p)
    assert slope.value == pytest.approx(theirs.coef_[0, 0], abs=1e-4)
    assert intercept.value == pytest.approx(theirs.intercept_[0], abs=1e-4)
    parted, _ = calibration.slope(label, np.where(label, 0.9, 0.1) + 0.01 * p)
    assert parted.value is None
    assert "part the classes" in str(parted.reason)


@pytest.mark.parametrize("sure", [0.01, 0.3, 3.0, 10.0, 30.0])
def test_calibration_slope_is_found_however_sure_a_model_is(sure: float) -> None:
    label, p = scores(300, seed=2)
    p = 1 / (1 + np.exp(-sure * (np.log(p / (1 - p)) + 1.5)))
    logits = calibration.logit(p)
    found = minimize(
        lambda b: (np.logaddexp(0, b[0] * logits + b[1]) - label * (b[0] * logits + b[1])).mean(), [1 / sure, 0.0],
        method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 5000},
    )  # fmt: skip
    slope, intercept = calibration.slope(label, p)
    assert (slope.value, intercept.value) == pytest.approx(found.x, rel=1e-3)
    assert slope.low < slope.value < slope.high


def test_intervals_of_slope_and_limits_are_those_of_patients_not_of_cases() -> None:
    """Six rows of each patient say no more than one of them."""
    label, p = scores(60)
    again, who = np.repeat(np.arange(60), 6), [f"p{i}" for i in np.repeat(np.arange(60), 6)]
    for one, six in zip(calibration.slope(label, p), calibration.slope(label[again], p[again], who), strict=True):
        assert six.value == pytest.approx(one.value, abs=1e-6)
        assert six.high - six.low == pytest.approx(one.high - one.low, rel=0.35)
    found, truth = p + 0.1 * label, np.linspace(0, 1, 60)
    one, six = (agreement.bland_altman(*a) for a in ((found, truth), (found[again], truth[again], who)))
    for edge in ("lower", "upper"):
        few, many = getattr(one, edge), getattr(six, edge)
        assert many.value == pytest.approx(few.value, rel=0.02)
        assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.35)


def test_no_slope_has_the_true_reason() -> None:
    label = np.arange(40) < 10
    assert "the same probability" in str(calibration.slope(label, np.full(40, 0.3))[0].reason)
    assert "part the classes" in str(calibration.slope(label, np.where(label, 0.2, 0.9))[0].reason)


def test_temperature_undoes_what_was_multiplied_in() -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal(20_000)
    label = rng.random(20_000) < 1 / (1 + np.exp(-logits))
    assert calibration.temperature(label, 3 * logits) == pytest.approx(3, rel=0.03)
    assert 0.05 < calibration.temperature(logits > 0, logits) < 1  # parted without error: finite all the same


def test_split_conformal_is_mapies() -> None:
    from mapie.regression import SplitConformalRegressor
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 1))
    y = x[:, 0] + rng.standard_normal(300)
    line = LinearRegression().fit(x[:100], y[:100])
    theirs = SplitConformalRegressor(estimator=line, confidence_level=0.9, prefit=True).conformalize(
        x[100:200], y[100:200]
    )
    _, interval = theirs.predict_interval(x[200:])
    half = calibration.conformal_quantile(np.abs(y[100:200] - line.predict(x[100:200])), coverage=0.9)
    assert half == pytest.approx(float(np.mean(interval[:, 1, 0] - interval[:, 0, 0])) / 2)
    assert calibration.conformal_quantile(np.arange(8.0), coverage=0.9) is None  # eight cases cannot promise 90 %


def test_mahalanobis_is_scikit_learns_and_knows_a_stranger() -> None:
    from sklearn.covariance import LedoitWolf

    rng = np.random.default_rng(0)
    seen = rng.standard_normal((120, 6)) * np.arange(1, 7)
    one_class = np.zeros(120, bool)
    cloud = distance.fit(seen, one_class)
    found = distance.distance(seen, cloud.means, cloud.precision)
    assert found == pytest.approx(np.sqrt(LedoitWolf().fit(seen).mahalanobis(seen)))
    fresh = rng.standard_normal((500, 6)) * np.arange(1, 7)
    assert (distance.distance(fresh, cloud.means, cloud.precision) > cloud.limit).mean() < 0.05
    assert (distance.distance(fresh + 30, cloud.means, cloud.precision) > cloud.limit).all()


def test_the_limit_of_a_cloud_holds_for_patients_it_has_not_seen() -> None:
    """Cases of one patient resemble one another: left out case by case, the others have told of it already."""
    rng = np.random.default_rng(0)
    patients = rng.standard_normal((60, 10))
    who = np.repeat(np.arange(60), 5)
    seen = patients[who] + 0.05 * rng.standard_normal((300, 10))
    fresh = rng.standard_normal((2000, 10))
    cloud = distance.fit(seen, np.zeros(300, bool), [f"p{i}" for i in who])
    assert (distance.distance(fresh, cloud.means, cloud.precision) > cloud.limit).mean() < 0.03


def test_what_is_short_of_one_is_never_shown_as_one() -> None:
    assert [format_number(v) for v in (0.99996, 0.9994, 1.0, 0.1234)] == [">0.999", "0.999", "1.000", "0.123"]
    assert format_number(41.256, 1) == "41.3"
