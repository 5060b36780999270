"""cohort.csv: what is wrong is named by row and column; splits keep patients together."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from cmssd_core.cohort import leakage
from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.check import check
from cmssd_core.cohort.split import divide, fold_by_patient, fold_table, split_by_patient, use_fold
from cmssd_core.types import InputError, Slide, Volume


def test_a_row_becomes_a_case_with_its_truth(cohort: Path) -> None:
    row = cohorts.read(cohort).iloc[0]
    case = cohorts.admit_row(row, cohort)
    volume, slide = case.inputs["mri"], case.inputs["he"]
    assert isinstance(volume, Volume)
    assert isinstance(slide, Slide)
    assert volume.contrasts == ("t1", "t2")
    assert slide.mpp == 1.0
    assert slide.site_mm == (row["site_x_mm"], row["site_y_mm"], row["site_z_mm"])
    assert case.truth.masks["bone"].shape == volume.voxels.shape[1:]
    assert case.truth.labels["severity_pct"] == row["severity_pct"]


def absolute(cohort: Path) -> pd.DataFrame:
    """The tiny cohort's table with paths that hold from anywhere."""
    table = pd.read_csv(cohort / "cohort.csv")
    for column in ("slide", *cohorts.MRI_COLUMNS, *cohorts.MASK_COLUMNS):
        table[column] = [str(cohort / name) if isinstance(name, str) else name for name in table[column]]
    return table


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(slide="nowhere.jpg"), r"row 2, column slide: no file nowhere.jpg"),
        (lambda t: t.assign(case_id="same"), r"row 3: case_id 'same' is there twice"),
        (lambda t: t.assign(case_id=["a", None, "b", "c"]), r"row 3, column case_id: nothing came, .* rename"),
        (lambda t: t.assign(case_id=["a", "b", "..", "c"]), r"row 4, column case_id: '\.\.' came"),
        (lambda t: t.assign(case_id=["a", "../b", "c", "d"]), r"row 3, column case_id: '\.\./b' came"),
        (lambda t: t.iloc[:0], "no rows with a case_id"),
        (lambda t: t.drop(columns="case_id"), "has no column case_id; it has 'patient_id'"),
        (lambda t: t.assign(malignant=[0, 1, 2, 1]), r"row 4, column malignant: '2' came, expected 0 or 1; mend"),
        (lambda t: t.assign(malignant=[True] * 4), r"row 2, column malignant: 'True' came, expected 0 or 1"),
        (lambda t: t.assign(event=["", "yes", 1, 0]), r"row 3, column event: 'yes' came"),
        (lambda t: t.assign(split="Train"), r"row 2, column split: 'Train' came, expected one of train, val, test"),
        (lambda t: t.assign(severity_pct=[0, 50, 100, 100.5]), r"row 5, column severity_pct: '100\.5' came"),
        (lambda t: t.assign(severity_pct=-1), r"row 2, column severity_pct: '-1' came, .*from 0 to 100"),
        (lambda t: t.assign(slide_mpp=0), r"row 2, column slide_mpp: '0' came, .*above 0"),
        (lambda t: t.assign(slide_mpp="0,5"), r"row 2, column slide_mpp: '0,5' came"),
        (lambda t: t.assign(time_months="-inf"), r"row 2, column time_months: '-inf' came"),
        (lambda t: t.assign(te_ms=[1, 2, "inf", 3]), r"row 4, column te_ms: 'inf' came, expected a finite number"),
        (lambda t: t.assign(fold=[1, 2, 1.5, 2]), r"row 4, column fold: '1\.5' came, expected a whole number"),
        (lambda t: t.assign(site_y_mm=[1, None, 2, 3]), r"row 3, column site_y_mm: nothing came, .*all three"),
        (
            lambda t: t.assign(patient_id=["p", "q", "p", "q"], split=["train", "val", "test", "val"]),
            r"row 4, column split: patient 'p' is in train and in test, .*same split",
        ),
        (
            lambda t: t.assign(patient_id=["p", "q", "p", "q"], fold=[1, 2, 1, 1]),
            r"row 5, column fold: patient 'q' is in fold 2 and in fold 1, .*same fold",
        ),
    ],
)
def test_a_broken_table_is_named_by_row_and_column(change, said: str, cohort: Path, tmp_path: Path) -> None:
    change(absolute(cohort)).to_csv(tmp_path / "cohort.csv", index=False)
    with pytest.raises(InputError, match=said) as mistake:
        cohorts.read(tmp_path)
    assert len(str(mistake.value).splitlines()) == 1


def test_a_row_has_the_number_it_has_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("case_id,malignant\na,1\n\n,\nb,\nc,maybe\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"row 6, column malignant: 'maybe' came"):
        cohorts.read(tmp_path)
    (tmp_path / "cohort.csv").write_text("case_id,malignant\na,1\n\n,\nb,\n", encoding="utf-8")
    assert list(cohorts.read(tmp_path)["case_id"]) == ["a", "b"]


def test_cells_beyond_the_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("case_id,malignant\na,1,7\n", encoding="utf-8")
    with pytest.raises(InputError, match="more cells than its header"):
        cohorts.read(tmp_path)


def test_what_belongs_to_a_slide_waits_for_one(cohort: Path, tmp_path: Path) -> None:
    absolute(cohort).assign(slide=None).to_csv(tmp_path / "cohort.csv", index=False)
    case = cohorts.admit_row(cohorts.read(tmp_path).iloc[0], tmp_path)
    assert set(case.inputs) == {"mri"}


def test_a_hundred_thousand_rows_are_checked_in_seconds(tmp_path: Path) -> None:
    n = 100_000
    table = pd.DataFrame({"case_id": [f"c{i}" for i in range(n)], "patient_id": [f"p{i // 2}" for i in range(n)]})
    table.assign(malignant=1, severity_pct=3.5, split="train").to_csv(tmp_path / "cohort.csv", index=False)
    began = time.process_time()
    assert len(cohorts.read(tmp_path)) == n
    assert time.process_time() - began < 10


def test_no_cohort_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no cohort\.csv"):
        cohorts.read(tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10), st.floats(0, 1))
def test_a_patient_is_never_on_two_sides(patients: int, seed: int, prevalence: float) -> None:
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    table = pd.DataFrame({"patient_id": who.astype(str), "malignant": rng.random(len(who)) < prevalence})
    table["split"] = split_by_patient(table, seed=seed)
    assert table.groupby("patient_id")["split"].nunique().max() == 1
    assert set(table["split"]) <= set(cohorts.SPLITS)


def link(there: Path, here: Path) -> str:
    here.symlink_to(there)
    return str(here)


@pytest.mark.parametrize(
    ("again", "column"),
    [
        (lambda there, here: str(there), "slide"),
        (lambda there, here: str(there.parent / ".." / there.parent.name / there.name), "slide"),
        (link, "slide"),
        (lambda there, here: str(shutil.copy(there, here)), "slide"),
        (lambda there, here: str(there), "mri_t1"),
        (lambda there, here: str(shutil.copy(there, here)), "mri_t1"),
    ],
    ids=["slide", "slide-other-words", "slide-link", "slide-copy", "mri", "mri-copy"],
)
def test_an_image_is_never_on_two_sides(again, column: str, cohort: Path, tmp_path: Path) -> None:
    table = absolute(cohort).assign(split=["train", "train", "test", "test"])
    table.to_csv(tmp_path / "cohort.csv", index=False)
    cohorts.read(tmp_path)
    there = Path(table.loc[0, column])
    table.loc[3, column] = again(there, tmp_path / f"copy{''.join(there.suffixes)}")
    table.to_csv(tmp_path / "cohort.csv", index=False)
    kind = "slide" if column == "slide" else "scan"
    said = rf"row 5, column {column}: .* same {kind} as .* of row 2, column {column}, which is in train .* in test"
    with pytest.raises(InputError, match=said) as mistake:
        cohorts.read(tmp_path)
    assert len(str(mistake.value).splitlines()) == 1
    table.assign(split="train").to_csv(tmp_path / "cohort.csv", index=False)
    cohorts.read(tmp_path)


def test_files_of_one_size_that_differ_are_no_leak(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(rng.bytes(300_000))
    # The same start, middle and end: only the whole file tells these two apart.
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[100_000] ^= 1
    (tmp_path / "b.png").write_bytes(bytes(data))
    rows = {"case_id": ["a", "b", "c"], "slide": ["a.png", "b.png", "c.png"], "split": ["train", "test", "val"]}
    pd.DataFrame(rows).to_csv(tmp_path / "cohort.csv", index=False)
    assert len(cohorts.read(tmp_path)) == 3


def detached(folder: Path, name: str, value: int, *, shape: tuple[int, ...] = (4, 5, 6)) -> str:
    """name.mhd with its voxels in name.raw."""
    sitk.WriteImage(sitk.GetImageFromArray(np.full(shape, value, np.int16)), str(folder / f"{name}.mhd"))
    return f"{name}.mhd"


@pytest.mark.parametrize(
    "copy",
    [
        lambda packed: ("again.nii", gzip.decompress(packed)),
        lambda packed: ("again.nii.gz", gzip.compress(gzip.decompress(packed), compresslevel=1, mtime=1)),
    ],
    ids=["unpacked", "packed anew"],
)
def test_a_scan_is_the_same_packed_and_unpacked(copy, cohort: Path, tmp_path: Path) -> None:
    table = absolute(cohort).assign(split=["train", "train", "test", "test"])
    name, content = copy(Path(table.loc[0, "mri_t1"]).read_bytes())
    (tmp_path / name).write_bytes(content)
    table.loc[3, "mri_t1"] = str(tmp_path / name)
    table.to_csv(tmp_path / "cohort.csv", index=False)
    said = rf"row 5, column mri_t1: {name} is the same scan as .* of row 2, .* in train .* in test"
    with pytest.raises(InputError, match=said):
        cohorts.read(tmp_path)
    (tmp_path / name).write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])  # damaged, or another scan
    cohorts.read(tmp_path)


def test_a_scan_copied_under_another_name_is_the_same_scan_though_its_header_differs(tmp_path: Path) -> None:
    names = [detached(tmp_path, "one", 1), detached(tmp_path, "another", 1)]
    rows = pd.DataFrame({"case_id": ["a", "b"], "mri_t1": names, "split": ["train", "test"]})
    rows.to_csv(tmp_path / "cohort.csv", index=False)
    with pytest.raises(InputError, match=r"another.mhd is the same scan as one.mhd of row 2"):
        cohorts.read(tmp_path)
    detached(tmp_path, "another", 2)
    assert len(cohorts.read(tmp_path)) == 2


def test_the_state_of_a_rows_files_is_that_of_every_file_they_consist_of(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    for name in ("series/1.dcm", "series/2.dcm", "slide.png"):
        (tmp_path / name).write_bytes(b"1")
    row = {"case_id": "a", "slide": "slide.png", "mri_t1": detached(tmp_path, "one", 1), "mri_t2": "series", "ct": None}
    before = cohorts.file_states(row, tmp_path)
    stat = (tmp_path / "slide.png").stat()
    assert before[0] == f"{stat.st_size} {stat.st_mtime_ns}"
    for place, name in enumerate(("slide.png", "one.raw", "series/2.dcm")):
        stat = (tmp_path / name).stat()
        os.utime(tmp_path / name, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))
        after = cohorts.file_states(row, tmp_path)
        assert [one != other for one, other in zip(before, after, strict=True)] == [n == place for n in range(3)]
        before = after


def test_headers_without_a_file_of_voxels_are_compared_themselves(tmp_path: Path) -> None:
    for name, size in (("one", 5), ("two", 6)):
        header = f"ObjectType = Image\nDimSize = 5 5 {size}\nElementDataFile = LOCAL\n"
        (tmp_path / f"{name}.mhd").write_text(header, encoding="utf-8")
    rows = pd.DataFrame({"case_id": ["a", "b"], "mri_t1": ["one.mhd", "two.mhd"], "split": ["train", "test"]})
    rows.to_csv(tmp_path / "cohort.csv", index=False)
    assert len(cohorts.read(tmp_path)) == 2


def test_a_folder_of_dicom_is_compared_file_by_file(tmp_path: Path) -> None:
    for name, value in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001.dcm").write_bytes(value * 10)
    rows = pd.DataFrame({"case_id": ["a", "b"], "mri_t1": ["a", "b"], "fold": [1, 2]})
    rows.to_csv(tmp_path / "cohort.csv", index=False)
    assert len(cohorts.read(tmp_path)) == 2
    rows.assign(mri_t1=["a", "c"]).to_csv(tmp_path / "cohort.csv", index=False)
    with pytest.raises(InputError, match=r"same scan as a of row 2, .* in fold 1 while this is in fold 2"):
        cohorts.read(tmp_path)


def test_a_table_of_tiles_is_a_cohort(cohort: Path, tmp_path: Path) -> None:
    slides = absolute(cohort)["slide"]
    for n, slide in enumerate(slides):
        shutil.copy(slide, tmp_path / f"tile {n}.jpg")
    tiles = pd.DataFrame(
        {
            "slide": [f"tile {n}.jpg" for n in range(4)],
            "slide_mpp": 1.0,
            "tissue_class": ["viable", "non_tumor", "viable", "non_viable"],
            "patient_id": ["p", "p", "q", "r"],
        }
    )
    tiles.to_csv(tmp_path / "cohort.csv", index=False)
    table = cohorts.read(tmp_path)
    assert list(table["case_id"]) == ["tile-0", "tile-1", "tile-2", "tile-3"]
    case = cohorts.admit_row(table.iloc[0], tmp_path)
    assert set(case.inputs) == {"he"}
    assert table["tissue_class"].tolist() == tiles["tissue_class"].tolist()


def test_the_check_takes_a_table_of_tiles_as_reading_does(tmp_path: Path) -> None:
    (tmp_path / "tile 1.jpg").touch()
    rows = pd.DataFrame({"slide": ["tile 1.jpg", "gone.jpg"], "tissue_class": "viable"})
    rows[:1].to_csv(tmp_path / "cohort.csv", index=False)
    assert len(cohorts.read(tmp_path)) == 1
    assert check(tmp_path / "cohort.csv", root=tmp_path).problems == ()
    rows.to_csv(tmp_path / "cohort.csv", index=False)
    assert [p.what for p in check(tmp_path / "cohort.csv", root=tmp_path).problems] == ["no file gone.jpg"]


def test_a_missing_profile_is_said_and_closes_no_cohort(cohort: Path, tmp_path: Path) -> None:
    before = cohorts.read(cohort)
    assert check(cohort / "cohort.csv", root=cohort).problems == ()
    absolute(cohort).to_csv(tmp_path / "cohort.csv", index=False)
    report = check(tmp_path / "cohort.csv", root=tmp_path)
    assert {problem.column for problem in report.problems} == {"rna"}
    assert len(report.problems) == len(before)
    assert report.usable
    assert report.compared
    assert len(cohorts.read(tmp_path)) == len(before)


def test_no_key_of_a_kept_answer_knows_the_profile(cohort: Path, tmp_path: Path) -> None:
    row = cohorts.read(cohort).iloc[0]
    assert cohorts.file_states(row.drop("rna"), cohort) == cohorts.file_states(row, cohort)


def test_a_cell_too_long_for_a_path_is_a_missing_file(tmp_path: Path) -> None:
    pd.DataFrame({"case_id": ["a"], "slide": ["x" * 300]}).to_csv(tmp_path / "cohort.csv", index=False)
    (found,) = check(tmp_path / "cohort.csv", root=tmp_path).problems
    assert (found.row, found.column) == (2, "slide")
    with pytest.raises(InputError, match="row 2, column slide: no file xxx"):
        cohorts.read(tmp_path)


def test_image_and_mask_alone_are_a_case(cohort: Path, tmp_path: Path) -> None:
    table = absolute(cohort)[["case_id", "mri_t1", "lesion_mask"]]
    table.to_csv(tmp_path / "cohort.csv", index=False)
    case = cohorts.admit_row(cohorts.read(tmp_path).iloc[0], tmp_path)
    assert set(case.inputs) == {"mri"}
    assert case.truth.masks["lesion"].any()
    assert "malignant" not in case.truth.labels


@pytest.mark.parametrize(("shift_mm", "spacing", "fits"), [(0, 2.0, True), (80, 2.5, False), (4000, 2.5, False)])
def test_a_mask_of_another_grid_fits_or_is_refused(shift_mm, spacing, fits, cohort: Path, tmp_path: Path) -> None:
    row = absolute(cohort).iloc[0]
    mask = sitk.ReadImage(row["bone_mask"])
    size = [round(n * s / spacing) for n, s in zip(mask.GetSize()[:2], mask.GetSpacing()[:2], strict=True)]
    drawn = sitk.Resample(
        mask, [*size, mask.GetSize()[2]], sitk.Transform(), sitk.sitkNearestNeighbor, mask.GetOrigin(),
        [spacing, spacing, mask.GetSpacing()[2]], mask.GetDirection(),
    )  # fmt: skip
    drawn.SetOrigin([o + d * shift_mm for o, d in zip(drawn.GetOrigin(), mask.GetDirection()[::3], strict=True)])
    sitk.WriteImage(drawn, str(tmp_path / "other.nii.gz"))
    row["bone_mask"] = str(tmp_path / "other.nii.gz")
    if fits:
        before = cohorts.admit_row(absolute(cohort).iloc[0], cohort).truth.masks["bone"]
        after = cohorts.admit_row(row, tmp_path).truth.masks["bone"]
        assert before is not None
        assert after is not None
        assert after.sum() == pytest.approx(before.sum(), rel=0.15)
        return
    with pytest.raises(InputError, match=r"column bone_mask: other.nii.gz .*expected a mask") as mistake:
        cohorts.admit_row(row, tmp_path)
    assert len(str(mistake.value).splitlines()) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(2, 8), st.integers(0, 10), st.floats(0, 1))
def test_every_fold_has_patients_of_its_own(patients: int, folds: int, seed: int, prevalence: float) -> None:
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    table = pd.DataFrame({"patient_id": who.astype(str), "malignant": rng.random(len(who)) < prevalence})
    if folds > patients:
        with pytest.raises(InputError, match="expected 2 to"):
            fold_by_patient(table, folds=folds, seed=seed)
        return
    table["fold"] = fold_by_patient(table, folds=folds, seed=seed)
    assert table.groupby("patient_id")["fold"].nunique().max() == 1
    assert set(table["fold"]) == set(range(1, folds + 1))
    assert table["fold"].tolist() == fold_by_patient(table, folds=folds, seed=seed)
    one = use_fold(table, 2, val=folds > 2)
    assert set(one["split"]) == ({"train", "val", "test"} if folds > 2 else {"train", "test"})
    assert (one["split"] == "test").equals(table["fold"] == 2)


def test_folds_are_stratified() -> None:
    table = pd.DataFrame({"patient_id": [str(i) for i in range(1000)], "malignant": [i % 10 < 3 for i in range(1000)]})
    table["fold"] = fold_by_patient(table, folds=5, seed=1)
    assert table.groupby("fold")["malignant"].mean().to_dict() == pytest.approx(dict.fromkeys(range(1, 6), 0.3))
    assert table["fold"].value_counts().tolist() == [200] * 5


def test_a_division_is_stored_and_the_same_each_time(cohort: Path, tmp_path: Path) -> None:
    absolute(cohort).to_csv(tmp_path / "cohort.csv", index=False)
    first = cohorts.read(divide(tmp_path, seed=3, folds=2))
    again = cohorts.read(divide(tmp_path, seed=3, folds=2))
    pd.testing.assert_frame_equal(first, again)
    assert set(first["fold"]) == {1, 2}
    assert first["split"].notna().all()
    with pytest.raises(InputError, match="fold 7 came"):
        use_fold(first, 7)


def test_a_division_is_changed_only_where_that_is_asked_for(cohort: Path, tmp_path: Path) -> None:
    plain = absolute(cohort).drop(columns=["split", "fold"])
    plain.assign(note="the user's own").to_csv(tmp_path / "cohort.csv", index=False)
    divide(tmp_path, seed=3)
    split = cohorts.read(tmp_path)["split"].tolist()
    divide(tmp_path, seed=4, folds=2)
    assert cohorts.read(tmp_path)["split"].tolist() == split
    for changed in ({"seed": 5}, {"seed": 4, "folds": 4}):
        with pytest.raises(InputError, match="already, expected none or this one"):
            divide(tmp_path, **changed)
    divide(tmp_path, seed=5, folds=4, replace=True)
    stored = pd.read_csv(tmp_path / "cohort.csv")
    assert sorted(stored["fold"]) == [1, 2, 3, 4]
    assert list(stored.columns) == [*plain.columns, "note", "split", "fold"]
    assert set(stored["note"]) == {"the user's own"}
    tested = cohorts.read(fold_table(tmp_path, 2))
    assert tested.loc[tested["split"] == "test", "fold"].tolist() == [2]
    assert (tested["split"] == "val").sum() == 1


def test_a_cohort_without_labels_is_divided_too() -> None:
    table = pd.DataFrame({"patient_id": [str(i) for i in range(40)], "malignant": np.nan})
    assert pd.Series(split_by_patient(table, seed=1)).value_counts().to_dict() == {
        "train": 28, "val": 6, "test": 6,
    }  # fmt: skip
    table.loc[:19, "malignant"] = 1.0
    assert set(split_by_patient(table, seed=1)) == set(cohorts.SPLITS)


def test_splits_are_70_15_15_and_stratified() -> None:
    table = pd.DataFrame({"patient_id": [str(i) for i in range(1000)], "malignant": [i % 10 < 3 for i in range(1000)]})
    table["split"] = split_by_patient(table, seed=1)
    share = table["split"].value_counts(normalize=True)
    assert dict(share) == pytest.approx({"train": 0.70, "val": 0.15, "test": 0.15})
    assert table.groupby("split")["malignant"].mean().to_dict() == pytest.approx(dict.fromkeys(cohorts.SPLITS, 0.3))


def test_a_row_that_names_the_whole_disk_is_a_sentence(tmp_path, monkeypatch) -> None:
    """A slip of the pen: what may not be opened is passed over, and more files than an examination has are refused."""
    for number in range(3):
        (tmp_path / "series" / str(number)).mkdir(parents=True)
        (tmp_path / "series" / str(number) / "image").write_bytes(bytes(number))
    (tmp_path / "series" / "2" / "closed").symlink_to("/proc/1/cwd/closed")
    assert [path.stat().st_size for path in leakage.image_files(tmp_path / "series", slide=False)] == [0, 1, 2]
    monkeypatch.setattr(leakage, "FILES_LIMIT", 2)
    (tmp_path / "scan").write_bytes(b"2")
    rows = "case_id,patient_id,mri_t1,split\na,p,series,train\nb,q,scan,test\n"
    (tmp_path / "cohort.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(InputError, match="'series' holds more than 2 files; give the folder of one examination"):
        cohorts.read(tmp_path / "cohort.csv")


def test_files_that_cannot_be_compared_are_a_sentence(tmp_path, monkeypatch) -> None:
    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("a.nii", "b.nii"):
        (tmp_path / name).write_bytes(b"2")
    monkeypatch.setattr(leakage, "_sample", closed)
    rows = "case_id,patient_id,mri_t1,split\na,p,a.nii,train\nb,q,b.nii,test\n"
    (tmp_path / "cohort.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(InputError, match=r"could not be compared \(Permission denied\); check that they can be read"):
        cohorts.read(tmp_path / "cohort.csv")
