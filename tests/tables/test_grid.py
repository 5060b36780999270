"""The door for tables: rows keep their numbers, and any bytes are a table or a sentence."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmssd_core.cohort import table as cohorts
from cmssd_core.tables.grid import MOST_LINES, names_in, read_grid
from cmssd_core.types import InputError

TOKENS = st.sampled_from([*"abc,;\t|\"'\n\r ", "\0", "\ufeff", "ö", "case_id", "sep=;\n", "=1", "NA"])
BYTES = st.one_of(
    st.binary(max_size=60), st.lists(TOKENS, max_size=30).map(lambda words: "".join(words).encode()),
    st.lists(TOKENS, max_size=30).map(lambda words: "".join(words).encode("utf-16")),
)  # fmt: skip


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(BYTES)
def test_any_bytes_are_a_table_or_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    names_in(path)
    try:
        grid = read_grid(path)
    except InputError:
        with pytest.raises(InputError, match=r"\Aany\.csv[^\n]*; [^\n]*\Z"):
            read_grid(path)
        return
    assert len(set(grid.cells.columns)) == len(grid.cells.columns)
    assert not grid.cells.isna().all(axis=1).any()


def test_rows_keep_their_numbers_below_what_excel_puts_on_top(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(b"sep=;\r\n\r\ncase_id;note\r\na;1\r\n;\r\nb;2\r\n")
    grid = read_grid(path)
    path.write_bytes(path.read_bytes() + b"c;3;4\r\n")
    with pytest.raises(InputError, match="row 7, has more cells"):
        read_grid(path)
    assert [(int(row) + 2, name) for row, name in grid.cells["case_id"].items()] == [(4, "a"), (6, "b")]


def test_names_are_kept_apart_and_empty_columns_go(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_text("case_id,note,note,,\na,1,2,,3\n", encoding="utf-8")
    grid = read_grid(path)
    assert list(grid.cells.columns) == ["case_id", "note", "note #3", "column #5"]
    assert grid.names == ("case_id", "note", "note")


def test_one_row_and_five_thousand_columns_are_read_in_seconds(tmp_path: Path) -> None:
    wide = pd.DataFrame([{"case_id": "a", **{f"x{number}": 1 for number in range(5000)}}])
    wide.to_csv(tmp_path / "cohort.csv", index=False)
    began = time.process_time()
    assert len(cohorts.read(tmp_path)) == 1
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["1,2,3", "4,5", "6,7,8"], r"row 3, has fewer cells than its header: 2 came, expected 3"),
        (["1,2,3", "", '4,"5,6"', "6,7,8"], r"row 4, has fewer cells than its header: 2 came, expected 3"),
        (["1,2,3", "4", "6,7,8"], "row 3, has fewer cells"),
        (["1,2,3", "4,5"], "row 3, has fewer cells"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_row_that_is_too_short_is_named(tmp_path: Path, rows: list[str], said: str, end: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes((end.join(["a,b,c", *rows]) + end).encode())
    with pytest.raises(InputError, match=said):
        read_grid(path)


@pytest.mark.parametrize("text", [
    "a,b,c\n1,2,3\n\n4,,\n", "a,b,c,\n1,2,3\n4,5,6,\n", "sep=;\na;b\n1;2\n;\n3;4\n", 'a,b\n"1\n2",3\n"",4\n',
    "a\n1\n\n2\n",
])  # fmt: skip
def test_blank_rows_and_empty_cells_are_no_short_rows(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    assert len(read_grid(path).cells) == 2


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    for path, sentence in ((tmp_path, "is a folder"), (tmp_path / "gone.csv", "cannot be opened")):
        with pytest.raises(InputError, match=sentence):
            read_grid(path)


def test_a_file_of_endless_lines_is_a_sentence(tmp_path):
    (tmp_path / "cohort.csv").write_bytes(b"case_id,slide\na,b.png\n" + b"\n" * MOST_LINES)
    with pytest.raises(InputError, match=r"cohort\.csv has more than 1,000,000 lines"):
        read_grid(tmp_path / "cohort.csv")
