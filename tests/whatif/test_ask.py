"""What-if: a change goes through the very forward that predicts, costs only its own part, and is never the original."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import showcase
import torch
from hypothesis import given
from hypothesis import strategies as st

from cmssd_core.cases.admit import admit
from cmssd_core.cases.collate import collate, hide_modalities
from cmssd_core.cases.prepare import prepare
from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.corruptions import cases as corrupted
from cmssd_core.explain.modality_shapley import interactions, modality_shares, shapley
from cmssd_core.inference import predict as inference
from cmssd_core.machine.store import Store
from cmssd_core.models import MODELS
from cmssd_core.types import Batch, InputError
from cmssd_core.whatif.ask import Bench, ask, sweep
from cmssd_core.whatif.change import Change, Damage, Region, box, canonical, content_id, words
from cmssd_core.whatif.differences import differences, doubts, leaning, map_change, map_difference
from cmssd_core.whatif.erase import mask_of

FIGURES = ("severity_pct", "p_malignant", "tumour_ml", "gate_mean", "gate_at_site", "severity_interval", "uncertainty")


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return Settings(cache_dir=tmp_path_factory.mktemp("cache"), threads=1, max_patches=8)


@pytest.fixture(scope="module")
def table(cohort):
    return cohorts.read(cohort / "cohort.csv")


@pytest.fixture(scope="module")
def case(cohort, table):
    return cohorts.admit_row(table.iloc[0], cohort, masks=False)


@pytest.fixture(scope="module")
def donor(cohort, table):
    return cohorts.admit_row(table.iloc[1], cohort, masks=False)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory, settings):
    """The shipped weights where they fit, so that numbers move; their calibration with them."""
    try:
        return inference.load(settings=settings)
    except InputError:
        return inference.load(showcase.weights(tmp_path_factory.mktemp("weights")), settings=settings)


@pytest.fixture
def bench(case, predictor, settings) -> Bench:
    return Bench(case, predictor, settings=settings)


def same(one, other) -> bool:
    maps = one.maps.keys() == other.maps.keys() and all(np.array_equal(one.maps[n], other.maps[n]) for n in one.maps)
    figures = [[getattr(each, name) for name in FIGURES] for each in (one, other)]
    for row in figures:  # tuples come back from the disk as lists
        row[5] = None if row[5] is None else tuple(row[5])
    return maps and figures[0] == figures[1]


def close(one, other) -> None:
    for name in one.maps:
        np.testing.assert_allclose(one.maps[name], other.maps[name], atol=2e-4)
    assert one.p_malignant == pytest.approx(other.p_malignant, abs=1e-4)


def test_no_change_is_the_original_bit_for_bit(bench, case, predictor, settings):
    plain = inference.predict(case, predictor, settings=settings)
    first, again = ask(bench, Change()), ask(bench, Change())  # encoded, then remembered
    for found in (first, again):
        assert same(found.prediction, plain)
        assert found.prediction.case_id == case.id
        assert found.prediction.quality == plain.quality
    nothing = Change(damages=(Damage(name="fold", level=0),), seed=9)
    assert not nothing
    assert same(ask(bench, nothing).prediction, plain)


@pytest.mark.parametrize("off", ["mri", "he"])
def test_a_modality_off_is_the_case_admitted_without_it(off, bench, case, predictor, settings):
    alone = replace(case, inputs={name: value for name, value in case.inputs.items() if name != off})
    wanted = inference.predict(alone, predictor, settings=settings)
    ask(bench, Change())  # so that the rest comes from memory
    found = ask(bench, Change(off=(off,))).prediction
    assert same(found, wanted)
    assert found.case_id != case.id
    assert not any(finding.where.startswith("slide" if off == "he" else "mri") for finding in found.quality)


def test_a_contrast_off_is_the_case_admitted_without_it(bench, cohort, table, case, predictor, settings):
    row = table.iloc[0]
    slide = case.inputs["he"]
    fewer = admit(contrasts={"t2": cohort / row["mri_t2"]}, he=slide.path, mpp=slide.mpp, site_mm=slide.site_mm)
    close(ask(bench, Change(contrasts_off=("t1",))).prediction, inference.predict(fewer, predictor, settings=settings))


@pytest.mark.parametrize(("name", "level"), [("fold", 3), ("stain", 5), ("noise", 2), ("gamma", 4)])
def test_an_artefact_is_the_one_of_the_evaluation(name, level, bench, case, predictor, settings):
    for there, at, raw, make in corrupted.variants(case, predictor.spec, settings, seed=1):
        if (there, at) == (name, level):
            wanted = inference.answer(raw, make(), predictor)
            break
    close(ask(bench, Change(damages=(Damage(name=name, level=level),), seed=1)).prediction, wanted)


def test_what_did_not_change_is_not_encoded_again(bench):
    ask(bench, Change())
    before = dict(bench.memory.computed)
    ask(bench, Change(damages=(Damage(name="fold", level=3),)))
    assert bench.memory.computed["mri"] == before["mri"]
    assert bench.memory.computed["he"] > before["he"]
    before = dict(bench.memory.computed)
    ask(bench, Change(damages=(Damage(name="noise", level=3),)))
    assert bench.memory.computed["he"] == before["he"]
    before = dict(bench.memory.computed)
    ask(bench, Change(site_mm=(0.0, 0.0, 0.0)))
    ask(bench, Change(patches_off=(0,)))
    ask(bench, Change(off=("he",)))
    assert bench.memory.computed == before


def test_erasing_on_one_slice_encodes_it_and_its_neighbours_alone(bench, case):
    ask(bench, Change())
    before = bench.memory.computed["mri"]
    ask(bench, Change(erased=box(3, (40, 90), (40, 90))))
    assert bench.memory.computed["mri"] == before + 3


def test_encoders_are_theirs_again_after_a_question_even_one_that_was_cancelled(bench, predictor):
    class CancelledError(Exception):
        pass

    def stop(share: float, what: str) -> None:
        if what == "running the network" and share > 0.5:
            raise CancelledError

    with pytest.raises(CancelledError):
        ask(bench, Change(), progress=stop)
    assert "forward" not in predictor.model.phi_mri.__dict__
    assert "forward" not in predictor.model.phi_he.__dict__
    assert not predictor.model.phi_mri._forward_hooks


def test_answers_are_kept_under_their_own_key(case, predictor, settings, tmp_path):
    store = Store(tmp_path / "store", limit_bytes=None)
    bench = Bench(case, predictor, settings=settings, store=store)
    change = Change(off=("he",))
    first = ask(bench, change).prediction
    again = ask(Bench(case, predictor, settings=settings, store=store), change).prediction
    assert "cache" in again.timings_s
    assert same(first, again)
    assert again.quality == first.quality
    plain = inference.predict(case, predictor, settings=settings, store=store)
    assert "cache" not in plain.timings_s
    assert plain.case_id == case.id
    assert not same(plain, first)


def test_every_change_has_an_id_of_its_own(case):
    changes = [
        Change(),
        Change(off=("he",)),
        Change(contrasts_off=("t1",)),
        Change(patches_off=(1,)),
        Change(damages=(Damage(name="fold", level=1),)),
        Change(damages=(Damage(name="fold", level=2),)),
        Change(damages=(Damage(name="fold", level=2),), seed=2),
        Change(erased=box(1, (1, 9), (1, 9))),
        Change(erased=box(1, (1, 9), (1, 9), fill="air")),
        Change(site_mm=(0.0, 1.0, 2.0)),
        Change(slide_of="ab" * 32),
    ]
    ids = {content_id(case.id, change) for change in changes}
    assert len(ids) == len(changes)
    assert case.id in ids
    assert all(bool(change) == bool(words(change)) for change in changes)
    swapped = Change(patches_off=(3, 1, 1), contrasts_off=("t2", "t1"))
    assert content_id(case.id, swapped) == content_id(case.id, Change(patches_off=(1, 3), contrasts_off=("t1", "t2")))


def test_another_patients_slide_is_read_at_this_patients_site(bench, donor, case, predictor, settings):
    mixed = replace(case, inputs={**case.inputs, "he": replace(donor.inputs["he"], site_mm=case.inputs["he"].site_mm)})
    wanted = inference.answer(mixed, prepare(mixed, spec=predictor.spec, settings=settings), predictor)
    close(ask(bench, Change(slide_of=donor.id), donor=donor).prediction, wanted)
    with pytest.raises(InputError, match="other patient's slide"):
        ask(bench, Change(slide_of=donor.id))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (Change(site_mm=(0.0, 0.0, 500.0)), "biopsy site at 0.0, 0.0, 500.0 mm came, expected one inside the MRI"),
        (Change(off=("mri", "he")), "every input was taken away"),
        (Change(contrasts_off=("t1", "t2")), "every contrast was taken away"),
        (Change(contrasts_off=("adc",)), "no adc"),
        (Change(patches_off=tuple(range(8))), "every patch was taken away|a patch beyond"),
        (Change(patches_off=(999,)), "a patch beyond"),
        (Change(damages=(Damage(name="fold", level=6),)), "level of 6 came, expected 0 to 5"),
        (Change(damages=(Damage(name="rust", level=1),)), "an artefact 'rust' came"),
        (Change(erased=box(99, (1, 9), (1, 9))), "slice 100 came, expected 1 to 6"),
        (Change(erased=box(1, (1000, 1100), (1, 9))), "holds no voxel"),
        (Change(erased=Region(slice_index=1, corners_mm=((1, 1), (2, 2)))), "fewer than three corners"),
        (Change(off=("ct",)), "a modality 'ct' came"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(change, sentence, bench):
    with pytest.raises(InputError, match=sentence) as refused:
        ask(bench, change)
    assert "\n" not in str(refused.value)


def test_a_case_without_mri_has_no_contrast_to_take_away(bench, case, predictor, settings):
    alone = Bench(replace(case, inputs={"he": case.inputs["he"]}), predictor, settings=settings)
    with pytest.raises(InputError, match="this case has none"):
        ask(alone, Change(damages=(Damage(name="noise", level=1),)))


def test_a_drawn_box_means_the_voxels_whose_centres_it_holds():
    volume = showcase.volume()
    mask = mask_of(volume, box(4, (0, 12 * 1.2), (0, 5 * 0.8)))
    assert mask.sum() == 12 * 5
    # x is stored towards the patient's left: the picture's left edge, the patient's right, is the array's start.
    assert mask[4, :5, :12].all()
    assert mask_of(volume, box(4, (0, 12 * 1.2), (0, 5 * 0.8), reach=2)).sum() == 5 * 60


def test_erasing_touches_the_region_alone_and_keeps_the_scale(bench, case):
    region = box(3, (40, 90), (40, 90))
    shown = ask(bench, Change(erased=region)).case.inputs["mri"].voxels
    raw, mask = case.inputs["mri"].voxels, mask_of(case.inputs["mri"], region)
    np.testing.assert_array_equal(shown[:, ~mask], raw[:, ~mask])
    assert np.ptp(shown[0][mask]) == 0


def test_differences_have_the_sign_of_after_minus_before():
    one = showcase.prediction()
    other = showcase.answering(replace(one, gate_at_site=None), severity_pct=30.0, p_malignant=0.9)
    found = {difference.name: difference for difference in differences(one, other)}
    assert found["Severity"].by == pytest.approx(-7.25)
    assert found["Probability of malignancy"].by == pytest.approx(0.0863)
    assert found["Gate at the biopsy site"].by is None
    smaller = replace(one, maps={**one.maps, "tumour": one.maps["tumour"] * 0.6})
    assert map_difference(one, smaller).max() <= 0
    changed = map_change(one, smaller)
    voxel_ml = 1.2 * 0.8 * 4.0 / 1000
    lost = ((one.maps["tumour"] >= 0.5) & (smaller.maps["tumour"] < 0.5)).sum()
    assert changed.gained_ml == 0
    assert changed.lost_ml == pytest.approx(lost * voxel_ml, rel=1e-6)


def test_an_interval_of_a_made_up_input_is_said_not_to_be_covered():
    known = {"coverage": 0.9, "ood_he": 1.0, "ood_he_limit": 4.0}
    one = replace(showcase.prediction(), uncertainty=known)
    other = replace(one, uncertainty={**known, "ood_he": 9.0})
    said = " ".join(doubts(Change(damages=(Damage(name="fold", level=5),)), one, other))
    assert "neither the 90% interval" in said
    assert "Out of distribution: this slide" in said
    assert "calibrated on cases with the MRI alone" in " ".join(doubts(Change(off=("he",)), one, other))
    assert "Nothing was calibrated" in " ".join(doubts(Change(off=("he",)), one, showcase.prediction()))
    assert doubts(Change(), one, one) == ()


def test_the_gates_answer_is_that_of_its_numbers():
    levels = (0, 1, 2, 3, 4, 5)
    assert leaning("he", levels, (0.60, 0.61, 0.63, 0.65, 0.66, 0.70)).yes is True
    assert "growing with every level" in leaning("he", levels, (0.60, 0.61, 0.63, 0.65, 0.66, 0.70)).answer
    assert "not with every level" in leaning("he", levels, (0.60, 0.61, 0.59, 0.65, 0.66, 0.70)).answer
    assert leaning("he", levels, (0.600, 0.601, 0.599, 0.602, 0.603, 0.604)).yes is False
    assert leaning("he", levels, (0.70, 0.68, 0.66, 0.65, 0.62, 0.60)).answer.startswith("No, it leans the other way")
    assert leaning("mri", levels, (0.70, 0.68, 0.66, 0.65, 0.62, 0.60)).yes is True
    assert leaning("he", levels, (0.7, None, 0.7, 0.7, 0.7, 0.7)).yes is None


def test_a_sweep_begins_at_the_original(bench, case, predictor, settings):
    told = []
    found = sweep(bench, "fold", levels=(0, 5), progress=lambda share, what: told.append(share))
    assert [level for level, _ in found] == [0, 5]
    assert same(found[0][1], inference.predict(case, predictor, settings=settings))
    assert told == sorted(told)
    assert told[-1] == 1.0


def games(players: int):
    names = ["mri", "he", "rna", "age"][:players]
    keys = [frozenset(n for n, bit in zip(names, f"{i:0{players}b}", strict=True) if bit == "1")
            for i in range(2**players)]  # fmt: skip
    numbers = st.lists(st.floats(-50, 50), min_size=2**players, max_size=2**players)
    return numbers.map(lambda values: dict(zip(keys, values, strict=True)))


@given(st.integers(1, 4).flatmap(games))
def test_shapley_values_share_out_all_there_is(game):
    everyone = frozenset().union(*game)
    assert sum(shapley(game).values()) == pytest.approx(game[everyone] - game[frozenset()], abs=1e-6)


@given(games(3), games(3), st.floats(-3, 3))
def test_shapley_values_are_linear_in_the_game(one, other, factor):
    mixed = shapley({s: one[s] + factor * other[s] for s in one})
    first, second = shapley(one), shapley(other)
    assert all(mixed[p] == pytest.approx(first[p] + factor * second[p], abs=1e-6) for p in mixed)


@given(games(3))
def test_players_who_add_the_same_get_the_same_and_who_adds_nothing_gets_nothing(game):
    swap = {"mri": "he", "he": "mri", "rna": "rna"}
    symmetric = {s: game[s] + game[frozenset(swap[p] for p in s)] for s in game}
    values = shapley(symmetric)
    assert values["mri"] == pytest.approx(values["he"], abs=1e-6)
    idle = {s: game[s - {"rna"}] for s in game}
    assert shapley(idle)["rna"] == pytest.approx(0, abs=1e-6)


def test_two_players_by_hand():
    v = {frozenset(): 1.0, frozenset({"mri"}): 4.0, frozenset({"he"}): 2.0, frozenset({"mri", "he"}): 9.0}
    assert shapley(v) == {"he": 3.0, "mri": 5.0}
    assert interactions(v) == {("he", "mri"): 4.0}
    with pytest.raises(ValueError, match="4 coalitions"):
        shapley({k: x for k, x in v.items() if k})


def test_a_batch_without_a_modality_is_that_of_the_case_without_it(bench, predictor):
    prepared = bench.prepared()
    batch = collate([prepared], predictor.spec)
    for name in ("mri", "he"):
        less = replace(prepared, inputs={n: v for n, v in prepared.inputs.items() if n != name})
        one, other = hide_modalities(batch, predictor.spec, name), collate([less], predictor.spec)
        for field in ("inputs", "valid", "present", "geometry"):
            mine, theirs = getattr(one, field), getattr(other, field)
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.fixture(scope="module")
def batch(case, predictor, settings) -> Batch:
    return collate([prepare(case, spec=predictor.spec, settings=settings)], predictor.spec)


def test_shares_of_a_case_add_up_to_its_logit(batch, predictor, bench):
    with torch.inference_mode():
        whole = float(predictor.model(batch).heads["malignant"][0])
    found = modality_shares(predictor.model, batch)
    assert found.values[frozenset({"mri", "he"})] == pytest.approx(whole, abs=1e-6)
    assert sum(found.phi.values()) == pytest.approx(whole - found.values[frozenset()], abs=1e-6)
    assert sum(found.share.values()) == pytest.approx(1)
    assert "own missing input" in found.baseline
    assert "with nothing" in found.baseline


def test_shares_agree_with_captum(batch, predictor):
    captum = pytest.importorskip("captum.attr")
    found = modality_shares(predictor.model, batch)
    names = ("mri", "he")

    def game(given: torch.Tensor) -> torch.Tensor:
        coalitions = [frozenset(n for n, on in zip(names, row, strict=True) if on) for row in given.tolist()]
        return torch.tensor([found.values[c] for c in coalitions], dtype=torch.float64)

    theirs = captum.ShapleyValues(game).attribute(torch.ones(1, 2, dtype=torch.float64))[0]
    assert [found.phi[n] for n in names] == pytest.approx(theirs.tolist(), abs=1e-6)  # Captum gives float32


@pytest.mark.parametrize("name", ["early", "late"])
def test_shares_of_a_model_that_cannot_do_without_say_what_stood_in(name, batch):
    model = MODELS[name]("compact").eval() if name in MODELS else pytest.skip(f"no model {name}")
    found = modality_shares(model, batch)
    assert sum(found.phi.values()) == pytest.approx(found.gap, abs=1e-6)


def test_an_answer_says_that_it_is_made_up(bench):
    found = ask(bench, Change(damages=(Damage(name="tear", level=5),))).prediction
    assert any("made up, not measured" in finding.what for finding in found.quality)
    assert any(step.startswith("what-if: missing tissue") for step in found.steps)
    assert canonical(Change(off=("he",), damages=(Damage(name="tear", level=5),))) == Change(off=("he",))
