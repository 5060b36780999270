"""What a spreadsheet would take for a formula is written with an apostrophe in front, and read without it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# After OWASP's "CSV Injection"; the last four are what East Asian keyboards write.
_BEGINS = r"[=+\-@\t\r\n＝＋－＠]"
_FORMULA = re.compile(_BEGINS)
_NUMBER = r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?"


def plain(text: str) -> str:
    """A cell that a spreadsheet shows as it is. Numbers stay numbers."""
    return f"'{text}" if _FORMULA.match(text) and not re.fullmatch(_NUMBER, text) else text


def plain_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `plain` cells of text and names of columns; the same table where all are plain already."""
    changed = {}
    for place in range(len(table.columns)):
        column = table.iloc[:, place]
        if column.dtype == "category":
            column = column.astype(object)
        if column.dtype.kind in "biufcmM":
            continue
        armed = column.map(lambda cell: isinstance(cell, str) and plain(cell) is not cell)
        if armed.any():
            changed[place] = column.astype(object).where(~armed, "'" + column.astype(str))
    names = [plain(name) if isinstance(name, str) else name for name in table.columns]
    if not changed and names == list(table.columns):
        return table
    table = table.copy()
    for place, column in changed.items():
        table.isetitem(place, column.to_numpy())
    return table.set_axis(names, axis=1)


def unquoted(column: pd.Series[str]) -> pd.Series[str]:
    """Cells of text as they were before `plain`."""
    return column.str.replace(rf"^'(?={_BEGINS})", "", regex=True)
