"""Expression profiles: every form of table gives the same numbers, the scale is told, mistakes earn one sentence."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import SAMPLES

from cmssd_core.profile.read import describe_profile, read_profile
from cmssd_core.types import InputError

GENE = st.text(string.ascii_letters + string.digits + "-.", min_size=1, max_size=8).filter(
    lambda name: not name[0].isdigit() and name.lower() not in ("gene", "genes", "symbol", "case", "na", "nan")
)
TABLES = st.lists(GENE, min_size=2, max_size=12, unique=True).flatmap(
    lambda genes: st.tuples(
        st.just(genes),
        st.lists(
            st.lists(st.floats(0.125, 1e6, width=32), min_size=len(genes), max_size=len(genes)), min_size=2, max_size=5
        ),
    )
)
ONE_FOLDER = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def said(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def long(values: dict[str, object], header: str = "gene,value") -> str:
    return "\n".join([header, *(f"{gene},{value}" for gene, value in values.items())]) + "\n"


@ONE_FOLDER
@given(
    table=TABLES,
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC, csv.QUOTE_ALL]),
    packed=st.booleans(),
    who=st.integers(0, 4),
)
def test_every_form_of_table_gives_the_same_profile(table, delimiter, quoting, packed, who, tmp_path: Path) -> None:
    genes, rows = table
    ids = [f"patient-{number}" for number in range(len(rows))]
    frame = pd.DataFrame(rows, index=pd.Index(ids, name="patient_id"), columns=genes)
    patient = ids[who % len(ids)]
    one = frame.loc[patient].rename("value").rename_axis("gene")
    endings = ".csv.gz" if packed else ".csv"
    wide, tall, alone = (tmp_path / f"{name}{endings}" for name in ("wide", "tall", "alone"))
    frame.to_csv(wide, sep=delimiter, quoting=quoting)
    frame.T.rename_axis("gene").to_csv(tall, sep=delimiter, quoting=quoting)
    one.to_csv(alone, sep=delimiter, quoting=quoting)
    readings = [read_profile(wide, patient_id=patient), read_profile(tall, patient_id=patient), read_profile(alone)]
    for reading in readings:
        assert reading.value.names == tuple(genes)
        np.testing.assert_array_equal(reading.value.values, np.float32(frame.loc[patient]))
    assert len({reading.digest for reading in readings}) == 1


@ONE_FOLDER
@given(table=TABLES, seed=st.integers(0, 100))
def test_the_digest_knows_neither_order_nor_name_of_the_file_but_every_value(table, seed, tmp_path: Path) -> None:
    genes, (values, *_) = table
    order = np.random.default_rng(seed).permutation(len(genes))
    one = said(tmp_path / "one.csv", long(dict(zip(genes, values, strict=True))))
    other = said(tmp_path / "other.csv", long({genes[place]: values[place] for place in order}))
    assert read_profile(one).digest == read_profile(other).digest
    changed = said(tmp_path / "changed.csv", long(dict(zip(genes, [values[0] * 2, *values[1:]], strict=True))))
    assert read_profile(changed).digest != read_profile(one).digest


def test_the_demo_cohorts_profiles_are_pandas_own_numbers() -> None:
    path = SAMPLES / "cases" / "synth-00003" / "rna.csv"
    reading, theirs = read_profile(path), pd.read_csv(path)
    assert reading.value.names == tuple(theirs["gene"])
    np.testing.assert_array_equal(reading.value.values, theirs["value"].to_numpy(np.float32))
    assert reading.value.unit == "log"
    assert reading.findings == ()
    with pytest.raises(ValueError, match="read-only"):
        reading.value.values[0] = 1


@pytest.mark.parametrize(
    ("values", "unit", "doubted"),
    [
        ([0, 3, 1200.5] * 50, "counts", False),
        ([0, 3, 1200] * 2, "counts", False),
        ([0, 3, 51.5] * 50, "counts", False),
        ([0, 3, 7] * 50, "counts", True),
        ([0, 1.5, 30] * 50, "counts", True),
        ([0, 1.5, 15.25] * 50, "log", False),
        ([0, 1.5, 15.25] * 2, "log", True),
    ],
)
def test_the_scale_is_told_from_the_range_and_doubt_is_said(values, unit, doubted, tmp_path: Path) -> None:
    path = said(tmp_path / "rna.csv", long({f"G{number}": value for number, value in enumerate(values)}))
    reading = read_profile(path)
    assert reading.value.unit == unit
    assert bool(reading.findings) == doubted
    assert ("counts" if unit == "counts" else "logarithm") in reading.steps[-1]
    assert float(reading.value.values.max()) == max(values)  # no logarithm is taken while reading


def test_what_the_user_says_of_the_scale_stands(tmp_path: Path) -> None:
    path = said(tmp_path / "rna.csv", long({"TP53": 3, "RB1": 5}))
    reading = read_profile(path, unit="log1p")
    assert (reading.value.unit, reading.findings) == ("log1p", ())
    assert reading.digest != read_profile(path, unit="log").digest
    with pytest.raises(InputError, match=r"unit 'zscore' came .* expected one of counts, log1p, log"):
        read_profile(path, unit="zscore")


def test_versions_of_ensembl_ids_are_dropped_and_counted(tmp_path: Path) -> None:
    names = ["ENSG00000141510.18", "ENSMUSG00000059552.8", "ENSG00000139687", "ENSG00000182378.15_PAR_Y", "AC004.2"]
    reading = read_profile(said(tmp_path / "rna.csv", long(dict.fromkeys(names, 99))))
    expected = ["ENSG00000141510", "ENSMUSG00000059552", "ENSG00000139687", "ENSG00000182378.15_PAR_Y", "AC004.2"]
    assert list(reading.value.names) == expected
    assert "version suffix of 2 Ensembl ids dropped" in reading.steps


def test_genes_keep_their_case_and_lose_their_blanks(tmp_path: Path) -> None:
    reading = read_profile(said(tmp_path / "rna.csv", "gene,value\n TP53 , 90\nTrp53,80 \n"))
    assert reading.value.names == ("TP53", "Trp53")
    assert reading.value.values.tolist() == [90, 80]


def test_a_gene_that_stands_there_twice_gets_the_mean_and_is_named(tmp_path: Path) -> None:
    text = "gene,value\nTP53,60\nRB1,70\nTP53,90\nENSG00000141510.1,10\nENSG00000141510.2,20\n"
    reading = read_profile(said(tmp_path / "rna.csv", text))
    assert dict(zip(reading.value.names, reading.value.values.tolist(), strict=True)) == {
        "TP53": 75, "RB1": 70, "ENSG00000141510": 15,
    }  # fmt: skip
    (finding,) = reading.findings
    assert finding.level == "warning"
    assert finding.what.startswith("2 genes stand there more than once")
    assert "TP53, ENSG00000141510" in finding.what


def test_what_a_counting_program_could_not_place_is_no_gene(tmp_path: Path) -> None:
    reading = read_profile(said(tmp_path / "counts.txt", "TP53\t90\nRB1\t80\n__no_feature\t12345\nN_unmapped\t6\n"))
    assert reading.value.names == ("TP53", "RB1")
    assert "2 tallies that are no genes left out" in reading.steps


def test_gene_names_that_a_spreadsheet_made_dates_of_are_named(tmp_path: Path) -> None:
    reading = read_profile(said(tmp_path / "rna.csv", long({"1-Mar": 90, "Sep-02": 80, "DEC1": 70, "HLA-A": 60})))
    (finding,) = reading.findings
    assert "into dates: 1-Mar, Sep-02;" in finding.what


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gene;value\nTP53;90,5\nRB1;1,25\n", [90.5, 1.25]),
        ("TP53;90,5\nRB1;1,25\n", [90.5, 1.25]),
        ("gene\tvalue\nTP53\t90,500\nRB1\t1,25\n", [90.5, 1.25]),
        ("gene,value\r\nTP53,90.5\r\nRB1,1.25\r\n", [90.5, 1.25]),
        ("gene,value\rTP53,90.5\rRB1,1.25\r", [90.5, 1.25]),
        ("\ufeffgene,value\n\nTP53,9.05e1\nRB1,1.25\n,\n\n", [90.5, 1.25]),
        ('"gene","value"\n"TP53","90.5"\n"RB1","1.25"\n', [90.5, 1.25]),
        ("# made by hand, in 2024\ngene,value\nTP53,90.5\nRB1,1.25\n", [90.5, 1.25]),
        ("#gene,value\nTP53,90.5\nRB1,1.25\n", [90.5, 1.25]),
        ("value\nTP53\t90.5\nRB1\t1.25\n", [90.5, 1.25]),
        ("gene,4711\nTP53,90.5\nRB1,1.25\n", [90.5, 1.25]),
        ("TP53\tRB1\nP1\t90.5\t1.25\n", [90.5, 1.25]),
        ("sample,TP53,RB1\nP1,90.5,1.25\n", [90.5, 1.25]),
    ],
)
def test_tables_as_programs_write_them_are_read(text, expected, tmp_path: Path) -> None:
    path = tmp_path / "rna.txt"
    path.write_bytes(text.encode())
    reading = read_profile(path)
    assert reading.value.names == ("TP53", "RB1")
    assert reading.value.values.tolist() == expected


def test_where_the_patient_stands_says_how_the_table_lies(tmp_path: Path) -> None:
    genes_in_rows = said(tmp_path / "xena.tsv", "sample\tP1\tP2\nTP53\t90\t91\nRB1\t80\t81\n")
    patients_in_rows = said(tmp_path / "wide.csv", "sample,TP53,RB1\nP1,90,80\nP2,91,81\n")
    one_gene = said(tmp_path / "one.csv", "sample,TP53\nP1,90\nP2,91\n")
    for path in (genes_in_rows, patients_in_rows):
        profile = read_profile(path, patient_id=" P2 ").value
        assert (profile.names, profile.values.tolist()) == (("TP53", "RB1"), [91, 81])
    assert read_profile(one_gene, patient_id="P2").value.names == ("TP53",)
    with pytest.raises(InputError, match=r"xena.tsv holds many patients, .* say which patient"):
        read_profile(genes_in_rows)


def test_a_row_of_another_patient_is_not_looked_at(tmp_path: Path) -> None:
    path = said(tmp_path / "wide.csv", 'patient_id,TP53,RB1\nP1,90,80\n"P,2",NA,81\nP3,1\n')
    assert read_profile(path, patient_id="P1").value.values.tolist() == [90, 80]
    with pytest.raises(InputError, match=r"wide.csv has 'NA' for gene TP53"):
        read_profile(path, patient_id="P,2")
    with pytest.raises(InputError, match=r"wide.csv, line 4, has 2 cells; expected 3"):
        read_profile(path, patient_id="P3")


@pytest.mark.parametrize(
    ("text", "patient", "sentence"),
    [
        ("gene,value\nTP53,-1.5\n", None, r"has -1.5 for gene TP53; expected counts, TPM, .* no z-scores"),
        ("gene,value\nTP53,90\nRB1,NaN\n", None, r"has 'NaN' for gene RB1; expected a number for each gene"),
        ("gene,value\nTP53,90\nRB1,\n", None, r"has nothing for gene RB1"),
        ("gene,value\nTP53,high\n", None, r"has 'high' for gene TP53; expected a plain number"),
        ("gene,value\nTP53,1_000\n", None, r"has '1_000' for gene TP53"),
        ("gene;value\nTP53;1,234\nRB1;20,500\n", None, r"has '1,234' for gene TP53; expected a plain number"),
        ("gene;value\nTP53;1,2\nRB1;20.5\n", None, r"has '1,2' for gene TP53"),
        ("gene,value\nTP53,inf\n", None, r"has 'inf' for gene TP53; expected a finite number"),
        ("gene,value\nTP53,1e39\n", None, r"has '1e39' for gene TP53; expected a finite number"),
        ("gene,value\nTP53,0\nRB1,0\n", None, r"has only zeros"),
        ("gene,value\n,90\n", None, r"gene 1 of 1, has no name"),
        ("gene,value\n", None, r"has no line below its first"),
        ("", None, r"is empty"),
        ("\n ,\n", None, r"is empty"),
        ("gene\nTP53\nRB1\n", None, r"has one column; expected genes and values"),
        ("__no_feature,5\n", None, r"holds no gene"),
        ("gene,value\nTP53,90,1\nRB1,80\n", None, r"has 3 cells; expected 2|has 2 cells; expected 3"),
        ("gene,value\nTP53,90\nRB1,80,7\n", None, r"line 3, has 3 cells; expected 2"),
        ("gene,P1,P2\nTP53,90,91\nRB1,80\n", "P1", r"line 3, has 2 cells; expected 3"),
        ("patient_id,TP53,RB1\nP1,90,80\nP2,91,81\n", None, r"holds 2 patients; expected the id of one"),
        ("gene,P1,P2\nTP53,90,91\n", None, r"holds 2 patients"),
        ("patient_id,TP53,RB1\nP1,90,80\n", "P9", r"holds no patient 'P9' in its first column"),
        ("gene,P1,P2\nTP53,90,91\n", "P9", r"holds no patient 'P9' in its first line"),
        ("id,P1,P2\nTP53,90,91\n", "P9", r"holds no patient 'P9' in its first line or first column"),
        ("patient_id,TP53,RB1\nP1,90,80\nP1,91,81\n", "P1", r"has 2 rows of patient 'P1'; expected one row"),
        ("gene,P1,P1\nTP53,90,91\n", "P1", r"has 2 columns of patient 'P1'; expected one column"),
        ("patient_id,TP53,sex\nP1,90,f\n", "P1", r"has 'f' for gene sex; .*nothing but genes"),
        ("P1,90.5,80.5\nP2,91.5,81.5\n", "P1", r"has numbers in its first line; expected the genes'"),
        ("gene,value\nTP53,9\0\n", None, r"is no text"),
    ],
)
def test_a_mistake_earns_one_sentence(text, patient, sentence, tmp_path: Path) -> None:
    path = said(tmp_path / "rna.csv", text)
    with pytest.raises(InputError, match=sentence) as mistake:
        read_profile(path, patient_id=patient)
    assert "\n" not in str(mistake.value)
    assert str(tmp_path) not in str(mistake.value)
    assert "--" not in str(mistake.value)
    assert (mistake.value.field == "patient_id") == ("holds" in sentence and "patient" in sentence)


def test_what_is_no_table_of_text_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(long({f"G{n}": n for n in range(500)}).encode())
    contents = {
        "sheet.xlsx": (b"PK\x03\x04rest", "spreadsheet or zip"),
        "cut.csv.gz": (whole[:200], "a whole .gz file"),
        "broken.csv.gz": (whole[:40] + b"\xff" * 60 + whole[100:], "a whole .gz file"),
        "wide.csv": ("gene,value\nTP53,9\n".encode("utf-16")[:-1], "damaged or cut short UTF-16"),
        "field.csv": (b"gene,value\n" + b"x" * 200_000 + b",1\n", "no table of cells"),
    }
    for name, (content, sentence) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=sentence):
            read_profile(tmp_path / name)
    with pytest.raises(InputError, match=r"there is no file nowhere\.csv"):
        read_profile(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_profile(tmp_path)


def test_other_encodings_are_read_and_a_guess_is_said(tmp_path: Path) -> None:
    text = "gene,Jörg,Max\nTP53,90,91\nRB1,80,81\n"
    for encoding, guessed in (("utf-8-sig", False), ("utf-16", False), ("utf-16-be", False), ("latin-1", True)):
        (tmp_path / "rna.csv").write_bytes(text.encode(encoding))
        reading = read_profile(tmp_path / "rna.csv", patient_id="Jörg")
        assert reading.value.values.tolist() == [90, 80]
        assert any("'Jörg'" in finding.what for finding in reading.findings) == guessed


def test_a_patient_is_found_under_the_spelling_of_a_spreadsheet(tmp_path: Path) -> None:
    path = said(tmp_path / "rna.csv", "patient_id,TP53,RB1\n12.0,90,80\n13.0,91,81\n")
    assert read_profile(path, patient_id="12").value.values.tolist() == [90, 80]
    with pytest.raises(InputError, match="under 2 spellings"):
        read_profile(said(tmp_path / "two.csv", "patient_id,TP53,RB1\n12.0,90,80\n12.00,91,81\n"), patient_id="12")


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_table_beyond_the_limit_is_refused_however_small_it_is_packed(ending, tmp_path: Path) -> None:
    text = ("gene,value\n" + "TP53,0\n" * 200_000).encode()
    path = tmp_path / f"bomb{ending}"
    path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    with pytest.raises(InputError, match="more than 1 MB of text"):
        read_profile(path, size_limit_mb=1)


@ONE_FOLDER
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode())))
def test_any_bytes_are_a_profile_or_a_sentence(content, tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    facts = describe_profile(path)
    json.dumps(facts, allow_nan=False)
    if facts["patients"] == 1 and facts["readable"]:
        profile = read_profile(path).value
        assert np.isfinite(profile.values).all()
        assert len(set(profile.names)) == len(profile.names) == len(profile.values) == facts["genes"]
    else:
        with pytest.raises(InputError, match=r"; expected .*; \w+"):
            read_profile(path)


def test_describing_says_what_reading_would(tmp_path: Path) -> None:
    path = tmp_path / "rna.csv"
    shutil.copy(SAMPLES / "cases" / "synth-00003" / "rna.csv", path)
    facts, reading = describe_profile(path), read_profile(path)
    assert facts["kind"] == "profile"
    assert facts["form"] == "one file a patient"
    assert (facts["genes"], facts["patients"], facts["unit"], facts["delimiter"]) == (205, 1, "log", "comma")
    assert facts["range"] == [float(reading.value.values.min()), float(reading.value.values.max())]
    assert facts["digest"] == reading.digest
    assert facts["steps"] == list(reading.steps)
    assert facts["readable"]
    assert facts["problem"] is None
    said(path, "gene,value\nTP53,-1\n")
    assert describe_profile(path)["problem"].startswith("rna.csv has -1 for gene TP53")


def test_a_table_of_many_is_described_by_its_first_patient_and_has_no_digest(tmp_path: Path) -> None:
    path = said(tmp_path / "wide.csv", "patient_id,TP53,RB1\nP1,90,80\nP2,91,81\n")
    facts = describe_profile(path)
    assert (facts["patients"], facts["range"], facts["digest"]) == (2, [80, 90], None)
    assert describe_profile(path, patient_id="P2")["digest"] == read_profile(path, patient_id="P2").digest
    assert "P1" not in json.dumps(facts)
