"""What pages share about cohorts: one selection, slices that last and name nobody, a view that a link brings back."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some
from places import ROOT
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from cmssd_core.config import settings
from cmssd_core.types import InputError
from dashboard import cohort_view, selection
from dashboard.cohort_view import Choice, Numbers, View
from dashboard.selection import CaseRef
from dashboard.services import cohort as cohorts
from dashboard.services import features, intake

DEMO = ROOT / "data_samples" / "cohort.csv"


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch):
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CMSSD_COHORT", raising=False)
    settings.cache_clear()
    st.session_state.clear()
    yield
    st.session_state.clear()
    settings.cache_clear()


def test_selecting_the_same_cases_again_changes_nothing_and_another_set_does():
    selection.set_selected(["a", "b"], by=selection.TABLE)
    first = selection.get_selected()
    selection.set_selected(["b", "a"], by=selection.PLOT)
    assert selection.get_selected() == first
    selection.set_selected(["a"], by=selection.MATRIX)
    assert (selection.get_selected().by, len(selection.get_selected())) == (selection.MATRIX, 1)
    assert selection.get_selected().turn > first.turn


def test_another_cohort_takes_its_selection_and_cases_away_but_not_what_was_uploaded():
    one, other = Path("/data/one/cohort.csv"), Path("/data/other/cohort.csv")
    selection.set_open_cohort(one)
    selection.set_selected(["a"], by=selection.TABLE)
    selection.set_current(CaseRef(one, "a"))
    selection.set_pinned(CaseRef(None, "content id of an upload"))
    selection.set_open_cohort(other)
    assert not selection.get_selected()
    assert selection.current() is None
    assert selection.get_pinned() == CaseRef(None, "content id of an upload")


def test_a_slice_lasts_and_its_file_names_nobody():
    saved = selection.save_slice(DEMO, "  odd   ones ", ["Mueller_Anna", "b"])
    assert [one.name for one in selection.slices(DEMO)] == ["odd ones"]
    assert selection.slices(DEMO)[0].case_keys == {selection.case_key("Mueller_Anna"), selection.case_key("b")}
    for path in settings().cache_dir.rglob("*"):
        assert "Mueller" not in str(path.relative_to(settings().cache_dir))
        assert not path.is_file() or "Mueller" not in path.read_text(encoding="utf-8")
    selection.delete_slice(DEMO, saved.id)
    selection.delete_slice(DEMO, "../../../etc/passwd")
    assert selection.slices(DEMO) == ()


def test_slices_saved_at_once_are_all_kept():
    def save(number: int) -> None:
        selection.save_slice(DEMO, f"slice {number}", ["a"])

    threads = [threading.Thread(target=save, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(selection.slices(DEMO)) == 12


def test_a_damaged_slice_is_passed_over():
    saved = selection.save_slice(DEMO, "sound", ["a"])
    folder = next(settings().cache_dir.rglob(f"{saved.id}.json")).parent
    (folder / "broken.json").write_text("{", encoding="utf-8")
    (folder / "other.json").write_text("[]", encoding="utf-8")
    assert [one.name for one in selection.slices(DEMO)] == ["sound"]


@pytest.mark.parametrize(
    ("name", "cases", "said"),
    [("x", [], "no cases"), ("   ", ["a"], "1 to 60"), ("y" * 61, ["a"], "1 to 60"), ("TAKEN", ["a"], "already")],
)
def test_a_slice_that_cannot_be_is_a_sentence(name, cases, said):
    selection.save_slice(DEMO, "taken", ["a"])
    with pytest.raises(InputError, match=said):
        selection.save_slice(DEMO, name, cases)


def columns() -> cohort_view.Facets:
    return {
        "sex": Choice(("f", "m", cohort_view.UNKNOWN), np.array([0, 1, 2, 0], dtype=np.int16)),
        "age_years": Numbers(np.array([30.0, np.nan, 50.0, 10.0]), 10.0, 50.0),
    }


ROWS = pd.DataFrame({"case_id": ["a", "b", "c", "d"], "patient_id": ["p", "p", "q", "r"]})


@pytest.mark.parametrize(
    ("view", "kept"),
    [
        (View(), [0, 1, 2, 3]),
        (View(chosen=(("sex", (0,)),)), [0, 3]),
        (View(chosen=(("sex", (2,)),)), [2]),
        (View(ranges=(("age_years", 20.0, 60.0),)), [0, 2]),
        (View(contains="P"), [0, 1]),
        (View(sort="age_years"), [3, 0, 2, 1]),
        (View(sort="age_years", descending=True), [2, 0, 3, 1]),
        (View(sort="sex"), [0, 3, 1, 2]),
        (View(sort="sex", descending=True), [1, 0, 3, 2]),
        (View(sort="case_id", descending=True), [3, 2, 1, 0]),
    ],
)
def test_filters_and_sort_do_what_they_say_and_what_is_missing_stands_last(view, kept):
    assert cohort_view.positions(ROWS, columns(), view).tolist() == kept


@given(
    places=some.sets(some.integers(0, 2), min_size=1),
    ends=some.tuples(some.integers(10, 50), some.integers(10, 50)),
    sort=some.sampled_from(["number", "case_id", "sex", "age_years"]),
    descending=some.booleans(),
)
def test_a_link_brings_the_view_back(places, ends, sort, descending):
    view = View(
        chosen=(("sex", tuple(sorted(places))),),
        ranges=(("age_years", float(min(ends)), float(max(ends))),),
        sort=sort,
        descending=descending,
    )
    query = cohort_view.to_query(view)
    assert cohort_view.from_query(query, columns()) == view


def test_a_link_bears_no_text_that_was_typed_and_no_value_of_a_column():
    view = View(chosen=(("sex", (1,)),), contains="Mueller")
    assert cohort_view.to_query(view) == {"filter": "sex:1"}


@given(some.dictionaries(some.sampled_from(["filter", "sort"]), some.text(max_size=40)))
def test_a_link_of_nonsense_is_no_error(query):
    cohort_view.from_query(query, columns())
    cohort_view.unpacked(query.get("filter", ""), 10)


@given(some.sets(some.integers(0, 500)))
def test_rows_packed_for_a_link_come_back(rows):
    said = cohort_view.packed(np.array(sorted(rows), dtype=np.int64))
    assert set(cohort_view.unpacked(said, 501).tolist()) == rows


def test_rows_beyond_the_table_are_left_out_however_many_are_claimed():
    assert cohort_view.unpacked("3-999999999.7", 5).tolist() == [3, 4]


def test_a_lasso_holds_what_lies_inside_it():
    # An L: the notch at the upper right is outside.
    x, y = np.array([0.0, 2, 2, 1, 1, 0]), np.array([0.0, 0, 1, 1, 2, 2])
    points = np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [1.5, 1.5], [-1, 0.5], [0.5, 3]])
    assert cohort_view.in_lasso(points, x, y).tolist() == [True, True, True, False, False, False]


def test_joined_rows_are_the_tables_rows_in_order_with_the_answers_of_the_results():
    rows = cohorts.join_answers(DEMO)
    told = pd.read_csv(DEMO)
    answers = pd.read_parquet(DEMO.parent / "results" / "predictions.parquet")
    assert rows["case_id"].tolist() == told["case_id"].tolist()
    both = answers[answers["given"] == "both"].set_index("case_id")["p_malignant"]
    assert rows.set_index("case_id")["p_malignant"].to_dict() == both.to_dict()
    assert rows.loc[rows["case_id"] == "synth-00006", "inputs"].tolist() == ["MRI and RNA profile"]
    assert rows.loc[rows["case_id"] == "synth-00009", "severity_pct"].isna().all()
    alone = cohorts.join_answers(DEMO, given="he")
    assert alone["answered"].sum() == (answers["given"] == "he").sum()


def test_a_cohort_without_results_has_no_answers_and_no_features(tmp_path):
    pd.DataFrame({"case_id": ["a", "b"], "malignant": [1, None]}).to_csv(tmp_path / "cohort.csv", index=False)
    rows = cohorts.join_answers(tmp_path / "cohort.csv")
    assert rows["p_malignant"].isna().all()
    assert cohorts.models(tmp_path / "cohort.csv") == ()
    assert features.features(tmp_path / "cohort.csv", None) is None
    assert features.plane(tmp_path / "cohort.csv", None, features.PCA) is None


def test_a_changed_table_is_read_anew(tmp_path):
    table = tmp_path / "cohort.csv"
    pd.DataFrame({"case_id": ["a"]}).to_csv(table, index=False)
    before = cohorts.fingerprint(table)
    assert len(cohorts.table(table)) == 1
    pd.DataFrame({"case_id": ["a", "b"]}).to_csv(table, index=False)
    assert len(cohorts.table(table)) == 2
    assert cohorts.fingerprint(table) != before


def told_features() -> tuple[np.ndarray, np.ndarray]:
    """The demo cohort's fused features as they lie on disk, z-scored by scikit-learn's definition."""
    from sklearn.preprocessing import StandardScaler

    kept = pd.read_parquet(DEMO.parent / "results" / "features.parquet")
    order = {name: row for row, name in enumerate(pd.read_csv(DEMO)["case_id"])}
    rows = kept["case_id"].map(order).to_numpy()
    return rows, StandardScaler().fit_transform(np.stack(kept["fused"].to_numpy()).astype(np.float64))


def test_the_plane_is_scikit_learns_pca_up_to_the_sign():
    found = features.plane(DEMO, None, features.PCA)
    assert found is not None
    rows, values = told_features()
    theirs = PCA(2, svd_solver="full")
    xy = theirs.fit_transform(values)
    assert found.rows.tolist() == rows.tolist()
    for axis in (0, 1):
        sign = np.sign(found.xy[:, axis] @ xy[:, axis])
        assert np.allclose(found.xy[:, axis], sign * xy[:, axis], atol=1e-6)
    assert f"{theirs.explained_variance_ratio_[0]:.0%}" in found.axes[0]


def test_like_cases_are_scikit_learns_nearest_neighbours():
    rows, values = told_features()
    away, places = NearestNeighbors(n_neighbors=6).fit(values).kneighbors(values[3:4])
    found = features.alike(DEMO, None, int(rows[3]), 5)
    assert found is not None
    assert found["row"].tolist() == rows[places[0, 1:]].tolist()
    others = np.linalg.norm(np.delete(values, 3, axis=0) - values[3], axis=1)
    assert np.allclose(found["distance"], away[0, 1:] / np.median(others))


def test_a_row_without_features_has_no_like_cases():
    assert features.alike(DEMO, None, 10_000) is None


def test_the_validator_names_row_column_and_repair(tmp_path):
    (tmp_path / "t1.nii").touch()
    pd.DataFrame(
        {
            "case_id": ["a", "b", "a", "d"],
            "patient_id": ["p", "p", "q", "r"],
            "mri_t1": ["t1.nii", "gone.nii", "t1.nii", None],
            "malignant": ["1", "2", "0", "0"],
            "split": ["train", "test", "train", "train"],
        }
    ).to_csv(tmp_path / "cohort.csv", index=False)
    found = intake.examine_folder(str(tmp_path))
    told = {(p.row, p.column): p for p in found.report.problems}
    assert "'2' came, expected 0 or 1" in told[3, "malignant"].what
    assert told[3, "malignant"].repair == "mend the cell or empty it"
    assert "no file gone.nii" in told[3, "mri_t1"].what
    assert "twice" in told[4, "case_id"].what
    assert "leakage: patient 'p' is in train and in test" in told[3, "split"].what
    assert not told[5, None].fatal
    assert found.cohort is None
    assert len(intake.problems(found.report)) == 5


def test_every_problem_the_reader_refuses_is_one_the_validator_names(tmp_path):
    for column, cell in (("age_years", "-1"), ("severity_pct", "101"), ("fold", "0"), ("split", "dev"), ("event", "x")):
        pd.DataFrame({"case_id": ["a"], column: [cell]}).to_csv(tmp_path / "cohort.csv", index=False)
        report = intake.examine_folder(str(tmp_path)).report
        with pytest.raises(InputError, match=f"row 2, column {column}"):
            cohorts.table(tmp_path / "cohort.csv")
        assert [(p.row, p.column) for p in report.problems if p.fatal] == [(2, column)]


def test_a_file_that_was_mended_is_found_mended_though_the_table_is_the_same(tmp_path):
    pd.DataFrame({"case_id": ["a"], "mri_t1": ["t1.nii"]}).to_csv(tmp_path / "cohort.csv", index=False)
    assert "no file t1.nii" in intake.examine_folder(str(tmp_path)).report.problems[0].what
    (tmp_path / "t1.nii").touch()
    assert intake.examine_folder(str(tmp_path)).report.problems == ()


def test_the_demo_cohort_has_nothing_wrong_and_can_be_opened():
    found = intake.examine_folder(str(DEMO.parent))
    assert found.report.problems == ()
    assert found.report.compared
    assert found.cohort == DEMO


@pytest.mark.parametrize(("path", "said"), [("cohort", "from the root"), ("/nowhere/at/all", "no cohort.csv")])
def test_a_folder_that_is_none_is_a_sentence(path, said):
    with pytest.raises(InputError, match=said):
        intake.examine_folder(path)


def test_cohorts_that_were_opened_are_known_to_later_sessions(tmp_path):
    pd.DataFrame({"case_id": ["a"]}).to_csv(tmp_path / "cohort.csv", index=False)
    table = intake.examine_folder(str(tmp_path)).cohort
    assert table is not None
    intake.remember(table)
    assert intake.list_tables() == (DEMO, table)
    assert intake.find_linked(cohorts.fingerprint(table), cohorts.fingerprint) == table
    intake.forget(table)
    assert intake.list_tables() == (DEMO,)
