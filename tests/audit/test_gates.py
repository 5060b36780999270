"""Measures and gates of the audit against others' truth: Quantus where it is right, scikit-learn, hand calculation."""

from __future__ import annotations

import numpy as np
import pytest
import quantus
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import nn

from cmssd_core.audit import measure, panel
from cmssd_core.audit.gates import checks as gates
from cmssd_core.audit.gates import faithfulness, localisation, resamples, screens, stability, verdict
from cmssd_core.explain import sanity

SHAPE = (1, 12, 12)


def random_map(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE)


def random_mask(seed: int, share: float = 0.2) -> np.ndarray:
    mask = np.random.default_rng(seed + 100).random(SHAPE) < share
    mask[0, 3, 3] = True
    return mask


def test_mass_and_rank_are_quantus_on_maps_that_are_not_negative() -> None:
    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :2]

    maps, masks = (np.stack([make(seed) for seed in range(4)]) for make in (random_map, random_mask))
    asked = {"x_batch": np.zeros((4, *SHAPE), dtype=np.float32), "y_batch": np.zeros(4, dtype=int), "a_batch": maps}
    for metric, ours in (("RelevanceMassAccuracy", "mass"), ("RelevanceRankAccuracy", "rank")):
        oracle = getattr(quantus, metric)(disable_warnings=True, normalise=False)
        theirs = oracle(model=Nothing().eval(), s_batch=masks, device="cpu", **asked)
        mine = [localisation.MEASURES[ours](a, mask, None) for a, mask in zip(maps, masks, strict=True)]
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_area_is_that_of_scikit_learn_and_enrichment_of_an_even_map_is_one(seed: int) -> None:
    a, mask = np.round(random_map(seed), 1), random_mask(seed)  # rounded: ties
    assert localisation.auc(a, mask) == pytest.approx(roc_auc_score(mask.ravel(), a.ravel()))
    assert localisation.enrichment(np.ones(SHAPE), mask) == pytest.approx(1)


def test_an_empty_mask_scores_nothing_where_quantus_says_true() -> None:
    empty = np.zeros(SHAPE, dtype=bool)
    assert {
        name: measure(random_map(0), empty, None) for name, measure in localisation.MEASURES.items()
    } == dict.fromkeys(localisation.MEASURES)


def test_pointing_shares_a_tie() -> None:
    a, mask = np.zeros(SHAPE), np.zeros(SHAPE, dtype=bool)
    a[0, 0, :4], mask[0, 0, :1] = 1, True
    assert localisation.pointing(a, mask) == pytest.approx(0.25)


def test_a_room_limits_map_and_mask() -> None:
    a, mask, room = np.ones(SHAPE), np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    mask[0, :2], room[0, :4] = True, True
    assert localisation.mass(a, mask, room) == pytest.approx(0.5)
    assert localisation.share(mask, room) == pytest.approx(0.5)


def test_shifted_copies_are_as_large_and_lie_in_the_room_and_beside_the_criterion() -> None:
    mask, room = np.zeros((3, 20, 20), dtype=bool), np.zeros((3, 20, 20), dtype=bool)
    mask[1, 4:7, 4:7], room[:, :15] = True, True
    found = localisation.shift_mask(mask, room, count=5, rng=np.random.default_rng(0))
    assert len(found) == 5
    for moved in found:
        assert moved.sum() == mask.sum()
        assert (moved & room).sum() >= 0.8 * mask.sum()
        assert (moved & mask).sum() <= 0.25 * mask.sum()


def test_deletion_prefers_the_map_that_knows_a_linear_model() -> None:
    weight = np.zeros((1, 16, 16))
    weight[0, 4:8, 4:8] = 1

    def answers(masks: list) -> np.ndarray:
        return np.array([float(weight[~mask].sum()) for mask in masks])

    rng = np.random.default_rng(0)
    fall, chance = faithfulness.deletion(weight, answers, block=4, rng=rng, randoms=20)
    assert fall == pytest.approx(16)  # the one tile that counts is always the first to go
    assert chance < 0.5 * fall
    rise, chance = faithfulness.insertion(weight, answers, block=4, rng=rng, randoms=20)
    assert rise == pytest.approx(16)
    assert chance < 0.5 * rise


def test_infidelity_is_nothing_for_a_map_that_foretells_every_fall_and_one_for_one_that_foretells_none() -> None:
    falls = np.array([1.0, -2.0, 3.0])
    assert faithfulness.infidelity(5 * falls, falls) == pytest.approx(0)  # whatever its scale
    assert faithfulness.infidelity(np.zeros(3), falls) == pytest.approx(1)


def test_completeness_is_not_asked_of_a_difference_near_nothing() -> None:
    assert faithfulness.completeness_gap(0.9, 1.5, 0.5) == pytest.approx(0.1)
    assert faithfulness.completeness_gap(0.9, 0.55, 0.5) is None


def test_a_scrambled_network_keeps_its_values_in_another_order_and_a_cascade_goes_from_the_answer_down() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    twin = sanity.scramble_weights(model, seed=1)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert not torch.equal(mine, theirs)
        assert torch.equal(mine.flatten().sort().values, theirs.flatten().sort().values)
    steps = [(name, [p.clone() for p in now.parameters()]) for name, now in sanity.cascade(model, seed=1)]
    assert [name for name, _ in steps] == ["2", "0"]
    assert torch.equal(steps[0][1][0], model[0].weight)  # the first layer is scrambled last


def test_between_the_trained_and_the_scrambled_network_lie_stages_of_a_cascade() -> None:
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(6)))
    found = sanity.stages(model, seed=1, count=2)
    assert [name for name, _ in found] == ["4", "2"]
    for name, half in found:
        kept = [torch.equal(mine.weight, theirs.weight) for mine, theirs in zip(model, half, strict=True)]
        assert kept == [i < int(name) for i in range(6)]
    assert sanity.stages(nn.Sequential(nn.Linear(2, 2)), seed=1, count=2) == []


def test_insertion_infidelity_and_the_cascade_are_told_and_decide_nothing() -> None:
    better, ones = np.full(8, 2.0) + CLEAN[:8] / 10, np.ones(8)
    plain = gates.faithful(better, 0 * ones, 0.01 * ones)
    told = gates.faithful(better, 0 * ones, 0.01 * ones, insertion=-5 * ones, infidelity=ones)
    assert (told.level, told.value) == (plain.level, plain.value)
    assert (told.details["insertion"], told.details["infidelity"]) == (-5, 1)
    assert "Infidelity 1.00" in told.reason
    sane = gates.sane(0.1 * ones, cascade={"gate": 0.9 * ones})
    assert (sane.level, sane.details) == ("pass", {"cascade gate": pytest.approx(0.9)})
    assert "down to gate 0.90" in sane.reason


def test_stability_is_one_for_the_same_map_and_sensitivity_its_relative_change() -> None:
    a = random_map(1)
    assert stability.agreement(a, [a, a]) == pytest.approx(1)
    assert stability.sensitivity_max(a, [1.1 * a]) == pytest.approx(0.1)
    assert sanity.spearman(a, np.ones(SHAPE)) is None


def test_a_hot_spot_is_where_all_maps_agree_whatever_each_one_sums_to() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((2, 30, 30)) * scale for scale in (1, 100, 3, 7)]
    assert screens.hot_spot(maps).ratio < 3
    for a in maps:
        a[:, 4:6, 7:9] += 300 * a.max()
    spot = screens.hot_spot(maps)
    assert spot.ratio > 50
    assert (4 <= spot.y <= 5, 7 <= spot.x <= 8) == (True, True)
    assert screens.hot_spot([np.zeros((1, 4, 4))]) is None


def test_answers_are_told_apart_within_a_label_alone() -> None:
    label, group = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=bool)
    assert screens.told_apart(label.astype(float), group, label) == pytest.approx(0.5)  # the label is no shortcut
    assert screens.told_apart(group + 10.0 * label, group, label) == pytest.approx(1)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_many_resamples_at_once_are_each_what_one_by_one_would_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers, group, label = rng.integers(0, 5, 12).astype(float), rng.random(12) < 0.5, rng.integers(0, 2, 12)
    drawn = resamples.weights(12, None, seed)[:5]
    for weights, found in zip(drawn, screens.pairwise(answers, group, label, drawn), strict=True):
        rows = np.repeat(np.arange(12), weights.astype(int))
        one = screens.told_apart(answers[rows], group[rows], label[rows])
        assert (np.isnan(found) and one is None) or found == pytest.approx(one)


def test_reversal_is_one_for_a_model_that_reads_the_trap_and_nothing_for_one_that_does_not() -> None:
    malignant = np.arange(40) % 2 == 0
    clean = np.random.default_rng(0).normal(size=40)
    assert screens.reversal(clean, clean + 100, malignant) == pytest.approx(1)
    assert screens.reversal(clean, clean, malignant) == pytest.approx(0)


def test_holm_is_the_hand_calculation() -> None:
    assert resamples.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_the_interval_of_few_cases_is_about_students() -> None:
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    low, high = resamples.between(resamples.means(resamples.weights(8, None, 0), values), 8)
    margin = 2.3646 * values.std(ddof=1) / np.sqrt(8)  # t with seven degrees of freedom
    assert (high - low) / 2 == pytest.approx(margin, rel=0.12)


def test_patients_are_drawn_whole() -> None:
    drawn = resamples.weights(4, ["a", "a", "b", "b"], 0)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 2] == drawn[:, 3]).all()


def test_six_patients_can_pass_four_tests_and_chance_passes_no_more_often_than_it_should() -> None:
    assert gates.necessity(np.array([3.0, 3.4, 2.6, 3.2, 2.8, 3.0]), np.zeros(6)).p < 0.05 / 4
    rng, drawn = np.random.default_rng(0), resamples.weights(6, None, 0)
    nothing = rng.normal(size=(2000, 6))
    p = np.array([resamples.chance(values.mean(), resamples.means(drawn, values), 6) for values in nothing])
    for level in (0.05, 0.0125):
        assert (p <= level).mean() == pytest.approx(level, abs=3 * np.sqrt(level / 2000))
    assert resamples.chance(0.0, np.zeros(1000), 6) == 1


def test_what_few_patients_show_often_is_not_counted_often() -> None:
    who, values = [name for name in "abc" for _ in range(8)], CLEAN[:24]
    three = {
        "G1": gates.trap("x", values, values, None, spread=1.0, patients=who),
        "by": gates.hospitals(values, MALIGNANT[:24], {"coil": ["a"] * 8 + ["b"] * 16}, who)[0],
        "G2": gates.necessity(values, values, who),
        "G3": gates.localisation(values, {"random": values}, who),
        "G4": gates.forbidden("x", values, who),
        "G5": gates.faithful(values, values, np.array([]), who),
        "G8": gates.outside(values, values, who, spread=1.0),
    }
    assert {gate.level for gate in three.values()} == {"not assessable"}
    two = ["a", "b"] * 12
    assert gates.works(values, MALIGNANT[:24], two).level == "not assessable"
    assert gates.sane(values, patients=two).level == "not assessable"
    assert gates.stable(values, values, patients=two).level == "not assessable"


def test_a_map_that_points_at_nothing_is_held_to_nothing() -> None:
    empty, room, rng = np.zeros(SHAPE), np.ones(SHAPE, dtype=bool), np.random.default_rng(0)
    never = None  # a model that would be asked: it is not
    plan = measure.Plan()
    assert measure.faithful(never, "mri", empty, room, plan=plan, rng=rng) is None
    assert measure.outside(never, empty, random_mask(0), room, plan=plan, rng=rng) is None
    inside = np.zeros(SHAPE)
    inside[0, 3, 3] = 1  # on the lesion alone: nothing else is shown
    assert measure.outside(never, inside, random_mask(0), room, plan=plan, rng=rng) is None


def test_an_interval_of_patients_seen_often_is_that_of_patients() -> None:
    each = CLEAN[:8]
    often, who = each.repeat(5), [name for name in "abcdefgh" for _ in range(5)]
    asked = {
        "G6": lambda values, patients: gates.sane(values, patients=patients),
        "G7": lambda values, patients: gates.stable(values, values, patients=patients),
        "G8": lambda values, patients: gates.outside(values, 0 * values, patients, spread=1.0),
    }
    for ask in asked.values():
        once, again = ask(each, None), ask(often, who)
        assert (again.low, again.high) == pytest.approx((once.low, once.high))


CLEAN = np.random.default_rng(1).normal(size=40)
MALIGNANT = np.arange(40) % 2 == 0


def test_a_named_trap_that_moves_the_answer_fails_and_one_nobody_named_warns() -> None:
    asked = {"spread": 1.0, "malignant": MALIGNANT}
    assert gates.trap("x", CLEAN, CLEAN + 2, **asked).level == "fail"
    assert gates.trap("x", CLEAN, CLEAN + 2, named=False, **asked).level == "warn"
    assert gates.trap("x", CLEAN, CLEAN + 0.01, **asked).level == "pass"
    assert gates.trap("x", CLEAN[:3], CLEAN[:3], **{**asked, "malignant": MALIGNANT[:3]}).level == "not assessable"


def test_few_cases_without_the_trap_are_said_and_one_that_moves_when_freed_of_it_excuses_no_map() -> None:
    few = gates.trap("x", CLEAN[:5], CLEAN[:5], None, spread=1.0, carry=20)
    assert few.level == "not assessable"
    assert "20 cases that came with it are left out" in few.reason
    empty = {"malignant": None, "groups": {}, "criteria": {}, "faithful": {}, "sound": {}, "outside": {}}
    shown = {"ig": {"x": {"modality": "mri", "enrichment": 30.0}}}
    rows = [
        {**empty, "patient_id": str(i), "logit": float(CLEAN[i]), "own": ["x"] * (i < 8), "forbidden": shown,
         "traps": {"x removed": {"clean": CLEAN[i] - 3, "trapped": CLEAN[i]}} if i < 8
         else {"x": {"clean": CLEAN[i], "trapped": CLEAN[i]}}}
        for i in range(16)
    ]  # fmt: skip
    traps = {"x": panel.TrapInfo("x", named=True), "x removed": panel.TrapInfo("x", named=True, of="x")}
    asked = {"criteria": {"breach": "mri"}, "methods": ["ig"], "spots": {}}
    levels = {g.name: g.level for g in panel.judge(rows, traps=traps, **asked)[0].gates}
    assert (levels["G1 x"], levels["G1 x removed"], levels["G4 x"]) == ("pass", "fail", "fail")
    alone = {g.name: g.level for g in panel.judge(rows, traps={"x": traps["x"]}, **asked)[0].gates}
    assert (alone["G1 x"], alone["G4 x"]) == ("pass", "warn")


def test_a_hospital_that_the_answer_tells_apart_fails() -> None:
    where = ["a" if i % 4 < 2 else "b" for i in range(40)]
    answers = CLEAN + 5 * (np.array(where) == "a")
    assert gates.hospitals(answers, MALIGNANT, {"centre": where})[0].level == "fail"
    assert gates.hospitals(CLEAN, MALIGNANT, {"centre": ["a"] * 40})[0].level == "not assessable"


def test_a_map_must_beat_the_best_control_not_chance() -> None:
    scores, weak = np.full(20, 3.0), np.random.default_rng(0).normal(1, 0.1, 20)
    assert gates.localisation(scores + weak, {"random": weak, "edge": weak}).level == "pass"
    assert gates.localisation(scores + weak, {"random": weak, "brightness": scores + 2}).level == "warn"


def test_a_hot_spot_fails_only_where_filling_it_moves_the_answer_and_no_bone_lies_there() -> None:
    spot = screens.HotSpot(60.0, 3, 4, np.ones((5, 5), bool), np.ones((5, 5)))
    asked = {"spread": 1.0, "n": 20}
    assert gates.hot(spot, np.full(20, 2.0), pathology=0.0, **asked).level == "fail"
    assert gates.hot(spot, np.full(20, 2.0), pathology=0.9, **asked).level == "warn"
    assert gates.hot(spot, np.full(20, 0.0), pathology=0.0, **asked).level == "warn"


def test_a_hot_spot_that_does_nothing_does_not_fail_where_its_mirror_image_lies_on_the_lesion() -> None:
    spot = screens.HotSpot(60.0, 3, 4, np.ones((5, 5), bool), np.ones((5, 5)))
    asked = {"spread": 1.0, "n": 20, "pathology": 0.0}
    assert gates.hot(spot, np.full(20, -2.0), **asked).level == "warn"
    assert gates.hot(spot, np.array([12.0, *[0.0] * 19]), **asked).level == "warn"  # one case is not the cohort
    assert gates.hot(spot, np.full(20, 2.0), patients=["a"] * 20, **asked).level == "not assessable"
    assert gates.hot(spot, np.full(20, 2.0), **{**asked, "pathology": None}).level == "warn"


def test_where_a_lesion_ever_lies_is_where_it_lies_in_any_case() -> None:
    maps, lesions = [np.zeros((1, 8, 8)) for _ in range(4)], [np.zeros((8, 8), dtype=bool) for _ in range(4)]
    for a in maps:
        a[0, 2, 2] = 1
    lesions[1][:5, :5] = True
    found, share = panel.spot_of(maps, [*lesions, None])
    assert (found.y, found.x) == (2, 2)
    assert share == 1


def test_a_model_that_parts_the_cases_timidly_is_not_demonstrated_and_one_that_guesses_fails() -> None:
    sure = gates.works(CLEAN + 3 * MALIGNANT, MALIGNANT)
    timid = gates.works((CLEAN + 3 * MALIGNANT) / 20, MALIGNANT)
    assert timid.value == sure.value
    assert (sure.level, timid.level) == ("pass", "warn")
    assert "vary by" in timid.reason
    guessing = gates.works(CLEAN / 20, MALIGNANT)
    assert guessing.level == "fail"
    harmless = gates.trap("x", CLEAN, CLEAN, MALIGNANT, spread=1.0)
    needed = gates.necessity(np.full(20, 2.0) + CLEAN[:20] / 10, np.zeros(20))
    located = gates.localisation(np.full(20, 5.0) + CLEAN[:20] / 10, {"random": np.ones(20)})
    assert verdict.verdict([timid, harmless, needed, located])[0] == "NOT DEMONSTRATED"
    assert verdict.verdict([guessing, harmless, needed, located])[0] == "FAIL"


def test_a_perfect_area_is_as_sure_as_the_rarer_label_has_patients() -> None:
    found = gates.works(np.r_[np.full(9, 5.0), np.zeros(15)], np.arange(24) < 9)
    assert found.low == pytest.approx(0.025 ** (1 / 9)), "Clopper and Pearson's bound for nine of nine"
    assert (found.value, found.high, found.level) == (1.0, 1.0, "pass")
    assert "0.66 to 1.00" in found.reason


def test_a_verdict_fails_before_it_is_not_assessable_and_passes_only_when_all_do() -> None:
    works = gates.works(CLEAN + 3 * MALIGNANT, MALIGNANT)
    trapped = gates.trap("x", CLEAN, CLEAN + 2, MALIGNANT, spread=1.0)
    absent = gates.necessity(np.array([]), np.array([]))
    assert works.level == "pass"
    assert verdict.verdict([works, trapped, absent])[0] == "FAIL"
    assert verdict.verdict([works, absent])[0] == "NOT ASSESSABLE"
    harmless = gates.trap("x", CLEAN, CLEAN, MALIGNANT, spread=1.0)
    needed = gates.necessity(np.full(20, 2.0) + CLEAN[:20] / 10, np.zeros(20))
    located = gates.localisation(np.full(20, 5.0) + CLEAN[:20] / 10, {"random": np.ones(20)})
    true = gates.faithful(np.full(20, 2.0) + CLEAN[:20] / 10, np.zeros(20), np.full(20, 0.01))
    sane = gates.sane(np.full(20, 0.1))
    assert verdict.verdict([works, harmless, needed, located, true, sane])[0] == "PASS"
    assert "but G4, which was not measured" in verdict.verdict([works, harmless, needed, located, true, sane])[1]
    seen = gates.forbidden("x", np.full(20, 1.0))
    assert verdict.verdict([works, harmless, needed, located, seen, true, sane]) == (
        "PASS",
        "every gate from G0 to G6 passes",
    )
    assert verdict.verdict([works, harmless, needed, located, true, gates.sane(np.full(20, 0.9))])[0] == (
        "NOT DEMONSTRATED"
    )


def test_several_seeds_give_one_verdict_and_one_that_fails_fails_all() -> None:
    assert verdict.together(["PASS", "PASS", "NOT ASSESSABLE"]) == "PASS"
    assert verdict.together(["PASS", "NOT DEMONSTRATED"]) == "NOT DEMONSTRATED"
    assert verdict.together(["PASS", "FAIL"]) == "FAIL"
    assert verdict.together(["NOT ASSESSABLE"]) == "NOT ASSESSABLE"


def test_an_empty_control_counts_nothing_and_does_not_end_the_audit() -> None:
    located = {"enrichment": 3.0, "controls": {"random": {"enrichment": 1.0}, "untrained": {"enrichment": None}}}
    empty = {"groups": {}, "traps": {}, "faithful": {}, "sound": {}, "outside": {}, "forbidden": {}}
    rows = [
        {**empty, "patient_id": str(i), "malignant": i % 2 == 0, "logit": float(i),
         "criteria": {"osteoid": {"located": {"gradcam": located}}}}
        for i in range(8)
    ]  # fmt: skip
    line = panel.judge(rows, criteria={"osteoid": "he"}, methods=["gradcam"], traps={}, spots={})[0]
    found = next(gate for gate in line.gates if gate.name == "G3")
    assert (found.value, found.level) == (2.0, "pass")
    assert found.details["control untrained"] == 0


def test_nothing_at_all_is_not_assessable_and_no_traceback() -> None:
    lines = panel.judge([], criteria={"osteoid": "he"}, methods=["gradcam"], traps={"x": panel.TrapInfo("x")}, spots={})
    assert [line.verdict for line in lines] == ["NOT ASSESSABLE"]
