"""Statistics of training patients: scikit-learn's numbers, of training patients alone, stored to the last bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.preprocessing import StandardScaler

from cmssd_core.profile.statistics import ProfileStatistics, fit_statistics, from_json, to_json
from cmssd_core.types import InputError, Profile, ProfileUnit

FINITE = st.floats(-1e300, 1e300)
COUNTS = arrays(np.float32, st.tuples(st.integers(2, 9), st.integers(1, 7)), elements=st.floats(0, 65536, width=32))


def profiles(values: np.ndarray, unit: ProfileUnit = "counts") -> list[Profile]:
    """One a row, genes G0, G1, ..."""
    names = tuple(f"G{place}" for place in range(values.shape[1]))
    return [Profile(np.float32(row), names, unit) for row in values]


@given(values=COUNTS, unit=st.sampled_from(["counts", "log1p", "log"]))
@settings(deadline=None)
def test_mean_and_deviation_are_scikit_learns(values, unit) -> None:
    found = fit_statistics(profiles(values, unit))
    logs = np.log1p(values.astype(np.float64)) if unit == "counts" else values.astype(np.float64)
    theirs = StandardScaler().fit(logs)
    np.testing.assert_allclose(found.mean, theirs.mean_, rtol=1e-12)
    constant = (values == values[0]).all(axis=0)
    np.testing.assert_allclose(found.deviation, np.where(constant, 0, np.sqrt(theirs.var_)), rtol=1e-6, atol=1e-12)
    assert (found.n, found.unit) == (len(values), "log" if unit == "log" else "log1p")


@given(
    genes=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1, max_size=20, unique=True),
    n=st.integers(1, 10**6),
    unit=st.sampled_from(["log1p", "log"]),
    data=st.data(),
)
@settings(deadline=None)
def test_what_is_stored_comes_back_to_the_last_bit(genes, n, unit, data, tmp_path_factory) -> None:
    several = st.lists(FINITE, min_size=len(genes), max_size=len(genes)).map(tuple)
    kept = ProfileStatistics(
        genes=tuple(genes), mean=data.draw(several), deviation=tuple(map(abs, data.draw(several))), n=n, unit=unit
    )
    assert from_json(to_json(kept)) == kept
    path = tmp_path_factory.getbasetemp() / "weights.safetensors"
    save_file({"weight": np.zeros(1, np.float32)}, str(path), metadata={"rna": to_json(kept)})
    with safe_open(str(path), "np") as opened:
        assert from_json(opened.metadata()["rna"]) == kept


def test_a_constant_gene_has_no_deviation_however_it_rounds() -> None:
    values = np.full((7, 3), 0.1, np.float32)
    values[:, 1] = np.arange(7)
    assert fit_statistics(profiles(values, "log")).deviation[::2] == (0, 0)


def test_genes_are_those_all_patients_share_in_the_first_ones_order() -> None:
    one = Profile(np.float32([1, 2, 3]), ("C", "A", "B"), "log")
    other = Profile(np.float32([5, 6, 7]), ("A", "D", "C"), "log")
    found = fit_statistics([one, other])
    assert found.genes == ("C", "A")
    assert found.mean == (4, 3.5)


def test_a_chosen_gene_is_taken_over_the_patients_who_have_it() -> None:
    several = [
        Profile(np.float32([1, 2]), ("A", "B"), "log"),
        Profile(np.float32([3, 8]), ("A", "B"), "log"),
        Profile(np.float32([5]), ("A",), "log"),
    ]
    found = fit_statistics(several, genes=("B", "A"))
    assert found.genes == ("B", "A")
    assert found.mean == (5, 3)
    assert found.deviation == pytest.approx((3, np.sqrt(8 / 3)))
    with pytest.raises(InputError, match=r"gene D \(one of 1\) stands in fewer than 2 of 3 RNA profiles"):
        fit_statistics(several, genes=("A", "D"))


def test_patients_on_different_scales_are_not_averaged() -> None:
    counts, logs = profiles(np.float32([[90, 80]])), profiles(np.float32([[4, 5]]), "log")
    with pytest.raises(InputError, match="RNA profiles in counts and log came; expected all counts or all logarithms"):
        fit_statistics([*counts, *logs])
    with pytest.raises(InputError, match="in zscore came"):
        fit_statistics(profiles(np.float32([[0, 1], [1, 0]]), "zscore"))
    with pytest.raises(InputError, match=r"1 RNA profiles came .* expected at least 2"):
        fit_statistics(counts)
    with pytest.raises(InputError, match="share no gene"):
        fit_statistics([Profile(np.float32([1]), ("A",), "log"), Profile(np.float32([1]), ("B",), "log")])


GOOD = {"genes": ["A", "B"], "mean": [1.0, 2.0], "deviation": [1.0, 0.0], "n": 5, "unit": "log"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mean": [1.0]}, "2 genes, 1 means and 2 deviations came"),
        ({"genes": ["A", "A"]}, "one twice, came"),
        ({"genes": [], "mean": [], "deviation": []}, "no gene"),
        ({"deviation": [1.0, -1.0]}, "not finite or below 0"),
        ({"mean": [float("nan"), 1.0]}, "not finite or below 0"),
        ({"mean": ["x", 1.0]}, "something else came"),
        ({"unit": "counts"}, "unit 'counts' of 5 patients came"),
        ({"n": 0}, "unit 'log' of 0 patients came"),
        ({"n": None}, "something else came"),
    ],
)
def test_stored_statistics_that_do_not_fit_are_refused(change, sentence) -> None:
    assert from_json(json.dumps(GOOD)).genes == ("A", "B")
    with pytest.raises(InputError, match=f"cannot be used: .*{sentence}"):
        from_json(json.dumps(GOOD | change))


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"genes": 3}', "[" * 100_000])
def test_what_is_no_statistics_is_refused(text) -> None:
    with pytest.raises(InputError, match="something else came"):
        from_json(text)
