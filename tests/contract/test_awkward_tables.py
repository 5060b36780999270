"""No table and no name of a file is read wrongly in silence: each awkward case is right, refused or remarked on."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward_tables import SPLITS, write_cohort, write_files
from command import run

from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.check import check
from cmssd_core.cohort.leakage import image_files
from cmssd_core.cohort.pairs import are_pairs, find_pairs
from cmssd_core.cohort.remarks import remarks
from cmssd_core.cohort.split import divide
from cmssd_core.cohort.tiles import are_tiles, find_tiles
from cmssd_core.commands.terminal import remark
from cmssd_core.types import InputError

LEAK = r"row 5, column split: patient 'P1' is in val and in test"
ALONE = ("P0", "P1", "P2", "P3", "P4", "P5")


def refused_at_every_door(folder: Path, sentence: str) -> None:
    before = (folder / "cohort.csv").read_bytes()
    for door in (cohorts.read, lambda folder: divide(folder, seed=1, replace=True)):
        with pytest.raises(InputError, match=sentence) as mistake:
            door(folder)
        assert len(str(mistake.value).splitlines()) == 1
    assert not check(folder / "cohort.csv", root=folder).usable
    assert (folder / "cohort.csv").read_bytes() == before


def words(folder: Path) -> str:
    """All that is remarked, which the import tells as the command line does."""
    found = remarks(folder)
    assert found == check(folder / "cohort.csv", root=folder).findings
    return "\n".join(f"{finding.level}: {finding.what}" for finding in found)


@pytest.mark.parametrize(
    "name",
    [
        *("patient_id ", " Patient_ID", "PatientID", "patient id", "\ufeffpatient_id", "pati\u200bent_id"),
        *("Patient", "subject_id"),
    ],
)
def test_a_column_of_patients_is_one_however_it_is_written(name: str, tmp_path: Path) -> None:
    header = ("case_id", name, "mri_t1", "malignant", "split")
    refused_at_every_door(write_cohort(tmp_path, header=header), LEAK)


@pytest.mark.parametrize("name", ["Split", "SPLIT", " split", "split\u00a0"])
def test_a_column_of_splits_is_one_however_it_is_written(name: str, tmp_path: Path) -> None:
    header = ("case_id", "patient_id", "mri_t1", "malignant", name)
    refused_at_every_door(write_cohort(tmp_path, header=header), LEAK)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (("case_id", "patinet_id", "mri_t1", "malignant", "split"), "'patinet_id' and none called patient_id"),
        (("case_id", "patient_id", "mri_t1", "malignant", "spilt"), "'spilt' and none called split"),
        (("case_id", "patient_id", "mri_t1", "PatientID", "split"), "'patient_id' and 'PatientID', .* both patient_id"),
        (("case_id", "patient_id", "mri_t1", "patient_id", "split"), "'patient_id' and 'patient_id', .* remove"),
    ],
)
def test_a_misspelt_or_doubled_column_is_refused(header, sentence: str, tmp_path: Path) -> None:
    refused_at_every_door(write_cohort(tmp_path, header=header), sentence)


def test_what_is_not_known_or_not_there_is_said(tmp_path: Path, capsys) -> None:
    header = ("case_id", "note", "mri_t1", "malignent", "split")
    said = words(write_cohort(tmp_path, header=header))
    assert "malignent (is it malignant?), note" in said
    assert "warning: no patient is named, so that each case counts as a patient of its own" in said
    assert run("split", tmp_path, "--replace") == 0
    assert "no patient is named" in capsys.readouterr().err


@pytest.mark.parametrize("same", ["P1 ", " P1", "P1\u00a0", "\u200bP1", "\ufeffP1", "P1\t"])
def test_blanks_and_what_no_one_sees_make_no_other_patient(same: str, tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, ids=("P0", "P0", "P1", same, "P2", "P2"))
    refused_at_every_door(folder, LEAK)
    assert "read without blanks" in words(folder)


@pytest.mark.parametrize(("one", "other"), [("12", "12.0"), ("12.00", "12"), ("12", "12,0")])
def test_a_number_of_a_spreadsheet_is_the_same_patient(one: str, other: str, tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, ids=("7", "7", one, other, "9", "9"), sep=";")
    refused_at_every_door(folder, "row 5, column split: patient '12' is in val and in test")


@pytest.mark.parametrize("word", ["NA", "None", "nan", "null", "N/A", "unknown", "#REF!", "1.23457E+11"])
def test_a_word_for_no_patient_is_never_one_in_silence(word: str, tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, ids=(word, word, word, "P1", "P1", "P1"), splits=("train", "test", *4 * ["test"]))
    refused_at_every_door(folder, r"row 2, column patient_id: .* came, expected a patient's id, .* empty")


def test_rows_without_a_patient_are_counted(tmp_path: Path) -> None:
    said = words(write_cohort(tmp_path, ids=("P0", "", "P1", "P2", "", "P2")))
    assert "2 of 6 rows name no patient, the first is row 3" in said


def test_leading_zeros_stay_and_are_remarked_on(tmp_path: Path, capsys) -> None:
    folder = write_cohort(tmp_path, ids=("007", "7", "012", "12", "12", "12.0"))
    assert cohorts.read(folder)["patient_id"].tolist() == ["007", "7", "012", "12", "12", "12"]
    assert "count as several: '007' and '7'; '012' and '12'; write them alike" in words(folder)
    assert run("split", folder, "--replace") == 0
    assert "'012' and '12'" in capsys.readouterr().err


@pytest.mark.parametrize(("one", "other"), [("p1", "P1"), ("Case3", "case_03"), ("Case-3", "Case3")])
def test_patients_who_look_like_one_are_remarked_on(one: str, other: str, tmp_path: Path) -> None:
    said = words(write_cohort(tmp_path, ids=("x", "x", one, other, "y", "y")))
    assert f"'{one}' and '{other}'" in said


@pytest.mark.parametrize(("sep", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_separators_and_encodings_are_read(sep: str, word: str, encoding: str, tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, ids=ALONE, centre="Köln", sep=sep, encoding=encoding)
    table = cohorts.read(folder)
    assert table["patient_id"].tolist() == list(ALONE)
    assert table["split"].tolist() == list(SPLITS)
    assert set(table["centre"]) == {"Köln"}
    said = words(folder)
    assert f"separated by {word}" in said
    assert ("read as Windows-1252 (latin-1), so that line 2 says 'Köln'" in said) == (encoding == "cp1252")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_a_table_that_was_read_is_divided(encoding: str, tmp_path: Path) -> None:
    header = ("case_id", "PatientID", "mri_t1", "malignant", "Split")
    folder = write_cohort(tmp_path, header=header, ids=ALONE, centre="Köln", sep=";", encoding=encoding)
    assert run("split", folder, "--replace", "--folds", "2") == 0
    stored = (folder / "cohort.csv").read_text(encoding="utf-8").splitlines()
    assert stored[0] == "case_id,PatientID,mri_t1,malignant,Split,centre,fold"
    assert {line.split(",")[5] for line in stored[1:]} == {"Köln"}
    assert set(cohorts.read(folder)["split"]) <= set(cohorts.SPLITS)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; expected a header"),
        (b"\n\n , ,\n", "is empty"),
        (b"case_id,mri_t1\n", "no rows with a case_id"),
        (b"case_id,mri_t1\na,\0\n", "NUL bytes"),
        (b"case_id,mri_t1\na,\"x\nb,\n", r"row 2, has a quotation mark .* never closed"),
        (b"case_id,mri_t1,malignant\na,\"x,1\nb,y\",0\n", r"row 2, column mri_t1: a cell of several lines"),
        (b"case_id,malignant\na,1\nb,1,7\n", r"row 3, has more cells than its header: 3 came, expected 2"),
        (b"case_id,mri_t1,malignant\na,,1\nb,", "ends in the middle of a row: 2 cells came, expected 3"),
        ("case_id,centre\na,K\u00f6ln\nb,M\u00fcnchen\n".encode()[:-6] + b"\xff\n", "damaged bytes in line 3"),
        ("case_id,centre\na,K\u00f6ln\n".encode("utf-16")[:-1], "damaged or cut short UTF-16"),
        (b"PK\x03\x04anything", "is a spreadsheet or zip file"),
        (b"\xd0\xcf\x11\xe0anything", r"is a spreadsheet \(.xls\)"),
        (b"\x89\x01\x02\x03\xff", "is no text"),
    ],
)  # fmt: skip
def test_what_is_no_whole_table_earns_one_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_bytes(content)
    refused_at_every_door(tmp_path, sentence)


def test_decimal_commas_are_read_where_commas_part_no_cells(tmp_path: Path) -> None:
    text = "case_id;severity_pct;te_ms\na;12,5;1,25\nb;7.5;80\n"
    (tmp_path / "cohort.csv").write_text(text, encoding="utf-8")
    assert cohorts.read(tmp_path)["severity_pct"].tolist() == [12.5, 7.5]
    (tmp_path / "cohort.csv").write_text(text.replace("1,25", "1,250"), encoding="utf-8")
    with pytest.raises(InputError, match=r"row 2, column te_ms: '1,250' came, expected a finite number"):
        cohorts.read(tmp_path)


@pytest.mark.parametrize("cell", ['"0,5"', "half", "0", "-1", "inf"])
def test_a_resolution_that_is_no_number_is_never_replaced(cell: str, tmp_path: Path) -> None:
    write_files(tmp_path, "Viable_a.png", "Viable_b.png")
    table = tmp_path / "tiles.csv"
    table.write_text(f"slide,class,mpp\nViable_a.png,Viable,{cell}\nViable_b.png,Viable,0.25\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"tiles\.csv, row 2, column mpp: .* came, expected .* above 0"):
        find_tiles(table, mpp=1.0)
    table.write_text("slide;class;mpp\n\nViable_a.png;Viable;0,5\nViable_b.png;Viable;\n", encoding="utf-8")
    assert find_tiles(table, mpp=1.0)[0]["slide_mpp"].tolist() == [0.5, 1.0]


def test_patients_of_tiles_are_counted_as_persons(tmp_path: Path) -> None:
    names = ("Viable_Case3-1", "Viable_Case-3-2", "Viable_case_03-3", "Non-Tumor_TCGA-DX-A1KU_P53_1")
    write_files(tmp_path, *(f"{name}.png" for name in (*names, "Viable_TCGA-DX-A1KW_P53_1")))
    table, _ = find_tiles(tmp_path, mpp=1.0)
    who = dict(zip(table["slide"], table["patient_id"], strict=True))
    assert len(set(who.values())) == 3
    assert who["Non-Tumor_TCGA-DX-A1KU_P53_1.png"] == "TCGA-DX-A1KU"
    assert len({who[f"{name}.png"] for name in names[:3]}) == 1


def test_a_folder_names_the_patient_of_its_tiles_and_what_names_none_is_said(tmp_path: Path) -> None:
    write_files(tmp_path, "P9/Viable_1.png", "P9/Viable_2.png", "Viable_3.png")
    table, _ = find_tiles(tmp_path, mpp=1.0)
    assert table["patient_id"].tolist() == ["P9", "P9", "Viable_3"]
    (said,) = remarks(tmp_path)
    assert said.what.startswith("1 of 3 tiles name no patient")


@pytest.mark.parametrize(
    ("cases", "patients"),
    [
        (("sub-01_ses-pre", "sub-01_ses-post", "sub-02_ses-pre"), ["sub-01", "sub-01", "sub-02"]),
        (("sub-01/ses-1/anat/sub-01_ses-1", "sub-01/ses-2/anat/sub-01_ses-2", "sub-02/x"), ["sub-01"] * 2 + ["sub-02"]),
        (("TCGA-DX-A1KU-01A", "TCGA.DX.A1KU.02A", "TCGA-DX-A1KW-01A"), ["TCGA-DX-A1KU"] * 2 + ["TCGA-DX-A1KW"]),
        (("Case3", "case_03_pre", "Case-4"), ["Case-4", "Case3", "Case3"]),
        (("STS_001_pre", "STS_001_post", "STS_002_20230110"), ["STS_001", "STS_001", "STS_002"]),
        (("P1_v1", "P1_v2", "P2_v1"), ["P1", "P1", "P2_v1"]),
        (("001_baseline", "001_3m", "002_3m"), ["001", "001", "002_3m"]),
        (("P1_T0", "P1_T3", "P1_visit_2"), ["P1"] * 3),
        (("P1_L", "P1_R", "P2_left"), ["P1", "P1", "P2_left"]),
        (("OS_V1", "OS_V2", "L_001", "R_001"), ["L_001", "OS_V1", "OS_V2", "R_001"]),
        (("siteA/case1", "siteB/case1", "siteB/case2"), ["siteA_case1", "siteB_case1", "siteB_case2"]),
    ],
)
def test_visits_of_a_patient_are_one_patient(cases, patients: list[str], tmp_path: Path) -> None:
    write_files(tmp_path, *(f"{case}_{word}.nii.gz" for case in cases for word in ("T1w", "mask")))
    assert sorted(find_pairs(tmp_path)["patient_id"]) == sorted(patients)


def test_who_was_taken_for_one_patient_is_said(tmp_path: Path, capsys) -> None:
    write_files(tmp_path, *(f"{case}_{word}.nii.gz" for case in ("P1_v1", "P1_v2", "P2") for word in ("t2", "mask")))
    (said,) = remarks(tmp_path)
    assert said.what.startswith("taken as visits of one patient: P1_v1 and P1_v2; give a cohort.csv")
    remark(tmp_path)
    assert "P1_v1 and P1_v2" in capsys.readouterr().err


@pytest.mark.parametrize(("one", "other"), [("P1_v1", "P1_v2"), ("001_baseline", "001_3m"), ("P1-L", "P1-R")])
def test_patients_of_a_table_who_differ_in_a_visit_alone_are_remarked_on(one: str, other: str, tmp_path: Path) -> None:
    said = words(write_cohort(tmp_path, ids=(one, one, other, other, "P2", "P2"), splits=("train",) * 6))
    assert f"warning: patients who differ in a visit or a side alone count as several: '{one}' and '{other}'" in said


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (("image", "mask", "mask_GTV"), r"P1 has 2 masks, P1/mask\.nii\.gz and P1/mask_GTV\.nii\.gz; expected one"),
        (("image", "mask", "mask_final"), r"P1 has 2 masks, P1/mask\.nii\.gz and P1/mask_final\.nii\.gz"),
        (("T1_image", "T2_image", "T1_mask", "T2_mask"), r"2 masks, P1/T1_mask\.nii\.gz and P1/T2_mask\.nii\.gz"),
        (("image", "img", "mask"), r"P1 has 2 images of t1, P1/image\.nii\.gz and P1/img\.nii\.gz"),
    ],
)
def test_two_masks_or_images_of_one_case_are_refused_and_named(files, sentence: str, tmp_path: Path) -> None:
    write_files(tmp_path, *(f"P1/{name}.nii.gz" for name in files))
    assert are_pairs(tmp_path)
    with pytest.raises(InputError, match=sentence):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("files", "case", "image", "mask"),
    [
        (("P1/t1.nrrd", "P1/t1-label.nrrd"), "P1", "P1/t1.nrrd", "P1/t1-label.nrrd"),
        (("P1-image.nii.gz", "P1-mask.nii.gz"), "P1", "P1-image.nii.gz", "P1-mask.nii.gz"),
        (("OS-01-T1.nii.gz", "OS-01-T1-seg.nii.gz"), "OS-01", "OS-01-T1.nii.gz", "OS-01-T1-seg.nii.gz"),
        (("OS-0000_t1.nii.gz", "OS-0000_mask.nii.gz"), "OS-0000", "OS-0000_t1.nii.gz", "OS-0000_mask.nii.gz"),
        (("left-bone_t1.nii", "left-bone_mask.nii"), "left-bone", "left-bone_t1.nii", "left-bone_mask.nii"),
        (("P1/t1.nii", "P1/t1-mask.nii", "P1/t1-bone-mask.nii"), "P1", "P1/t1.nii", "P1/t1-mask.nii"),
        (("P1/t1.nii", "P1/mask.nii", "P1/._t1.nii", "P1/._mask.nii"), "P1", "P1/t1.nii", "P1/mask.nii"),
        (("P1-t1.nii", "P1-ct.nii", "P1-mask.nii"), "P1", "P1-t1.nii", "P1-mask.nii"),
    ],
)
def test_a_mask_is_known_behind_a_hyphen_and_no_id_loses_its_own(
    files, case: str, image: str, mask: str, tmp_path: Path
) -> None:
    write_files(tmp_path, *files)
    (row,) = find_pairs(tmp_path).dropna(axis=1).to_dict("records")
    assert row == {"case_id": case, "patient_id": case, "mri_t1": image, "tumour_mask": mask}


def test_what_macos_writes_beside_a_file_is_never_counted(tmp_path: Path) -> None:
    write_files(tmp_path / "tiles", "Viable_P1.png", "._Viable_P1.png")
    assert find_tiles(tmp_path / "tiles", mpp=1.0)[0]["slide"].tolist() == ["Viable_P1.png"]
    write_files(tmp_path / "alone", "._Viable_P1.png")
    assert not are_tiles(tmp_path / "alone")
    table = tmp_path / "tiles/tiles.csv"
    table.write_text("image,class,mpp\nViable_P1,viable,1\n", encoding="utf-8")
    assert find_tiles(table)[0]["slide"].tolist() == ["Viable_P1.png"]
    write_files(tmp_path, "a.mrxs", "a/Dat.dat", "a/._Dat.dat", "scan/1.dcm", "scan/._1.dcm")
    assert [file.name for file in image_files(tmp_path / "a.mrxs", slide=True)] == ["Dat.dat", "a.mrxs"]
    assert [file.name for file in image_files(tmp_path / "scan", slide=False)] == ["1.dcm"]


@pytest.mark.parametrize("second", ["a/Viable_P1.png", "./a/../a/Viable_P1.png"])
def test_a_picture_in_two_rows_is_refused_and_both_are_named(second: str, tmp_path: Path) -> None:
    write_files(tmp_path, "a/Viable_P1.png", "a/Viable_P2.png")
    rows = ["a/Viable_P1.png,viable", "a/Viable_P2.png,viable", "", f"{second},non_tumor"]
    (tmp_path / "tiles.csv").write_text("\n".join(["image,class", *rows]) + "\n", encoding="utf-8")
    said = r"rows 2 and 5, column image: both name .*, the first as viable, the second as non_tumor; expected one row"
    with pytest.raises(InputError, match=said):
        find_tiles(tmp_path / "tiles.csv", mpp=1.0)


def test_a_tile_that_its_name_and_its_folder_call_differently_is_refused(tmp_path: Path) -> None:
    write_files(
        tmp_path, "Non-Tumor 2/Non-Tumor_P1.png", "viable and non-viable/Non-Viable_P1.png", "set/Viable_P2.png"
    )
    assert sorted(find_tiles(tmp_path, mpp=1.0)[0]["tissue_class"]) == ["non_tumor", "non_viable", "viable"]
    write_files(tmp_path, "Non-Tumor 2/Viable_P3.png")
    with pytest.raises(
        InputError, match=r"says viable by its name and non_tumor by its folder, Non-Tumor 2; .* move or"
    ):
        find_tiles(tmp_path, mpp=1.0)


def test_a_refusal_is_the_commands_sentence(tmp_path: Path, capsys) -> None:
    write_files(tmp_path, "P1/image.nii.gz", "P1/mask.nii.gz", "P1/mask_GTV.nii.gz")
    assert run("evaluate", tmp_path, "--weights", tmp_path, "--out", tmp_path / "out") == 2
    assert "P1 has 2 masks" in capsys.readouterr().err
    assert run("split", write_cohort(tmp_path / "leak")) == 2
    assert "patient 'P1' is in val and in test" in capsys.readouterr().err
