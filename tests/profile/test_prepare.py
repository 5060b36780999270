"""Preparing a profile: scikit-learn's z-scores, the model's order, missing genes counted, scales never mixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from places import SAMPLES
from sklearn.preprocessing import StandardScaler

from cmssd_core.profile.prepare import prepare_profile
from cmssd_core.profile.read import read_profile
from cmssd_core.profile.statistics import ProfileStatistics, fit_statistics
from cmssd_core.types import InputError, Profile

COUNTS = arrays(np.float32, st.tuples(st.integers(2, 9), st.integers(1, 7)), elements=st.floats(0, 65536, width=32))


def named(count: int) -> tuple[str, ...]:
    return tuple(f"G{place}" for place in range(count))


def statistics(count: int, *, unit: str = "log1p") -> ProfileStatistics:
    places = np.arange(count)
    return ProfileStatistics(
        genes=named(count), mean=tuple(1.0 + places % 5), deviation=tuple(0.5 + places % 3), n=40, unit=unit
    )


def lacking(genes: tuple[str, ...], lost: set[str], value: float = 5.0) -> Profile:
    kept = tuple(gene for gene in genes if gene not in lost)
    return Profile(np.full(len(kept), value, np.float32), kept, "log1p")


@given(values=COUNTS, seed=st.integers(0, 99), unit=st.sampled_from(["counts", "log1p", "log"]))
@settings(deadline=None)
def test_training_patients_get_scikit_learns_z_scores_in_the_models_order(values, seed, unit) -> None:
    names = named(values.shape[1])
    patients = [Profile(row, names, unit) for row in values]
    fitted = fit_statistics(patients)
    logs = np.log1p(values.astype(np.float64)) if unit == "counts" else values.astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(names))
    expected = StandardScaler().fit_transform(logs)[:, order]
    expected[:, (values == values[0]).all(axis=0)[order]] = 0
    for patient, theirs in zip(patients, expected, strict=True):
        prepared, _, _ = prepare_profile(patient, genes=[names[place] for place in order], statistics=fitted)
        assert prepared.names == tuple(names[place] for place in order)
        assert (prepared.unit, prepared.values.dtype) == ("zscore", np.float32)
        np.testing.assert_allclose(prepared.values, theirs, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 99), count=st.integers(1, 60))
@settings(deadline=None)
def test_neither_order_nor_other_genes_of_the_file_change_anything(seed, count) -> None:
    rng = np.random.default_rng(seed)
    genes = named(count)
    values = np.float32(rng.uniform(0, 9, count))
    plain = Profile(values, genes, "log1p")
    order = rng.permutation(count + 3)
    longer = (*genes, "X1", "X2", "X3")
    mixed = Profile(np.append(values, [9, 9, 9])[order].astype(np.float32), tuple(longer[i] for i in order), "log1p")
    one = prepare_profile(plain, genes=genes, statistics=statistics(count))
    other = prepare_profile(mixed, genes=genes, statistics=statistics(count))
    np.testing.assert_array_equal(one[0].values, other[0].values)
    assert one[1] == other[1]


@given(count=st.integers(20, 100), seed=st.integers(0, 99), share=st.floats(0, 0.2))
@settings(deadline=None)
def test_up_to_a_twentieth_missing_is_the_mean_and_said_and_more_is_refused(count, seed, share) -> None:
    genes = named(count)
    lost = set(np.random.default_rng(seed).choice(genes, int(share * count), replace=False).tolist())
    profile = lacking(genes, lost)
    if 20 * len(lost) > count:
        with pytest.raises(InputError, match=rf"lacks {len(lost)} of the {count} genes .* expected at most 5% missing"):
            prepare_profile(profile, genes=genes, statistics=statistics(count))
        return
    prepared, findings, _ = prepare_profile(profile, genes=genes, statistics=statistics(count))
    known = [gene not in lost for gene in genes]
    assert not prepared.values[np.logical_not(known)].any()
    by_hand = (5 - np.array(statistics(count).mean)) / np.array(statistics(count).deviation)
    np.testing.assert_allclose(prepared.values[known], by_hand[known], rtol=1e-6)
    said = [finding.what for finding in findings if "missing" in finding.what]
    assert bool(said) == bool(lost)
    if lost:
        assert said[0].startswith(f"{len(lost)} of {count} genes are missing")
        assert lost == set(said[0].partition(": ")[2].split(", "))


def test_a_gene_that_never_varied_in_training_says_nothing() -> None:
    fitted = replace(statistics(3), deviation=(1.0, 0.0, 1.0))
    prepared, _, steps = prepare_profile(lacking(named(3), set(), 4), genes=named(3), statistics=fitted)
    np.testing.assert_allclose(prepared.values, [3, 0, 1])
    assert "1 genes that did not vary in training set to 0" in steps


def test_counts_are_made_logarithms_and_logarithms_are_not() -> None:
    counts = Profile(np.float32([0, 9, 99]), named(3), "counts")
    logs = Profile(np.log1p(counts.values), named(3), "log1p")
    one, _, steps = prepare_profile(counts, genes=named(3), statistics=statistics(3))
    other, _, others = prepare_profile(logs, genes=named(3), statistics=statistics(3))
    np.testing.assert_allclose(one.values, other.values, rtol=1e-6)
    assert "ln(1 + value) taken of counts" in steps
    assert "ln(1 + value) taken of counts" not in others


@pytest.mark.parametrize(("came", "trained"), [("counts", "log"), ("log1p", "log"), ("log", "log1p")])
def test_logarithms_of_another_base_than_in_training_are_refused(came, trained) -> None:
    profile = Profile(np.float32([1, 2, 3]), named(3), came)
    with pytest.raises(InputError, match="expected one scale, as another base changes each z-score"):
        prepare_profile(profile, genes=named(3), statistics=statistics(3, unit=trained))


def test_without_statistics_logarithms_come_out_and_it_is_said() -> None:
    counts = Profile(np.float32([0, 9, 99]), named(3), "counts")
    prepared, (finding,), _ = prepare_profile(counts, genes=("G2", "G0"), statistics=None)
    np.testing.assert_allclose(prepared.values, np.log([100, 1]), rtol=1e-6)
    assert (prepared.unit, prepared.names) == ("log1p", ("G2", "G0"))
    assert "not z-scored" in finding.what
    assert prepare_profile(replace(counts, unit="log"), genes=("G2",), statistics=None)[0].unit == "log"
    with pytest.raises(InputError, match=r"lacks 1 of the 4 genes .*\(G3\); expected all of them"):
        prepare_profile(counts, genes=named(4), statistics=None)


def test_a_profile_far_from_all_of_training_is_severe() -> None:
    near = prepare_profile(lacking(named(40), set(), 3), genes=named(40), statistics=statistics(40))
    far = prepare_profile(lacking(named(40), set(), 12), genes=named(40), statistics=statistics(40))
    assert near[1] == ()
    assert [(finding.level, finding.where) for finding in far[1]] == [("severe", "rna")]


@pytest.mark.parametrize(
    ("names", "model", "repair"),
    [
        (("Trp53", "Rb1"), ("TRP53", "RB1"), "in other letters"),
        (("ENSG00000141510", "ENSG00000139687"), ("TP53", "RB1"), "names Ensembl ids, the model symbols"),
        (("A", "B"), ("TP53", "RB1"), "give a profile that has them"),
    ],
)
def test_names_of_another_kind_are_recognised(names, model, repair) -> None:
    fitted = replace(statistics(2), genes=model)
    with pytest.raises(InputError, match=rf"lacks 2 of the 2 genes that the model reads .*{repair}"):
        prepare_profile(Profile(np.float32([1, 2]), names, "log1p"), genes=model, statistics=fitted)


def test_statistics_of_another_model_and_prepared_profiles_are_refused() -> None:
    with pytest.raises(InputError, match=r"statistics lack 1 of the model's genes: G3; .* stored with its weights"):
        prepare_profile(lacking(named(4), set()), genes=named(4), statistics=statistics(3))
    prepared, _, _ = prepare_profile(lacking(named(4), set()), genes=named(4), statistics=statistics(4))
    with pytest.raises(InputError, match="z-scored already"):
        prepare_profile(prepared, genes=named(4), statistics=statistics(4))
    with pytest.raises(ValueError, match="read-only"):
        prepared.values[0] = 1


def test_the_demo_patients_are_prepared_by_their_own_statistics() -> None:
    patients = [read_profile(path).value for path in sorted((SAMPLES / "cases").glob("*/rna.csv"))]
    assert len(patients) >= 20
    fitted = fit_statistics(patients)
    prepared = [prepare_profile(patient, genes=fitted.genes, statistics=fitted) for patient in patients]
    table = np.array([profile.values for profile, _, _ in prepared])
    varied = np.array(fitted.deviation) > 0
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(table.std(axis=0)[varied], 1, atol=1e-5)
    assert all(findings == () for _, findings, _ in prepared)
