"""Formulas: what a spreadsheet would run is written as text, and read back as it was."""

from __future__ import annotations

import ast
import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from cmssd_core.cohort.table import write_table
from cmssd_core.tables.grid import read_grid
from cmssd_core.tables.spreadsheet import plain, plain_table


@pytest.mark.parametrize(
    "cell", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "-1+1", "=cmd|' /C x'!A1"]
)
def test_a_formula_is_written_as_text(cell: str) -> None:
    assert plain(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-5", "+3.2", "-1e-3", "-0,5", "-.5", "a=1", "", " =1", "P-1", "'x"])
def test_numbers_and_words_stay(cell: str) -> None:
    assert plain(cell) == cell


def test_a_table_given_away_holds_no_formula_and_is_read_as_it_was(tmp_path: Path) -> None:
    table = pd.DataFrame({"case_id": ["a", "b"], "=note": ["=1+1", None], "severity_pct": [-1.5, 2.0]})
    write_table(table, tmp_path / "cohort.csv")
    with (tmp_path / "cohort.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows == [["case_id", "'=note", "severity_pct"], ["a", "'=1+1", "-1.5"], ["b", "", "2.0"]]
    cells = read_grid(tmp_path / "cohort.csv").cells
    assert cells.iloc[0, 1] == "=1+1"


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1), min_size=1))
def test_no_cell_of_a_table_begins_as_a_formula_unless_it_is_a_number(cells: list[str]) -> None:
    made = plain_table(pd.DataFrame({"note": cells, "number": range(len(cells))}))
    for before, after in zip(cells, made["note"], strict=True):
        assert after == plain(before)
    assert made["number"].tolist() == list(range(len(cells)))


def test_cells_of_a_category_are_plain_too() -> None:
    table = pd.DataFrame({"centre": pd.Categorical(["=A1", "b", None])})
    assert plain_table(table)["centre"].tolist()[:2] == ["'=A1", "b"]
    assert plain_table(table[1:]) is not None


def test_what_the_dashboard_shows_as_a_table_can_be_saved_by_its_button() -> None:
    """Streamlit's own export writes cells as they are shown."""
    shown = []
    for path in [*(ROOT / "dashboard").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if named and node.func.attr in ("dataframe", "data_editor"):
                first = node.args[0] if node.args else None
                shown.append((path.name, isinstance(first, ast.Call) and ast.unparse(first.func) == "plain_table"))
    assert len(shown) >= 6
    assert [name for name, safe in shown if not safe] == []
