"""A list of cases that one can walk by mouse or keys, and open the case that is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import streamlit as st

from cmssd_core.evaluation.metrics import METRICS, drawn_names
from cmssd_core.tables.spreadsheet import plain_table
from dashboard import selection

#: column -> its name on screen and the format of its numbers, None = words.
COLUMNS: Mapping[str, tuple[str, str | None]] = {
    "case_id": ("case", None),
    "malignant": ("truth", None),
    "p_malignant": ("p malignant", "%.3f"),
    "risk": ("log hazard", "%+.2f"),
    "severity_true": ("true severity, %", "%.1f"),
    "severity_pct": ("found severity, %", "%.1f"),
    **{
        column: (METRICS[name].heading, f"%.{METRICS[name].digits.narrow}f")
        for column, name in {"severity_error": "severity_mae", **{name: name for name in drawn_names()}}.items()
    },
    "centre": ("centre", None),
    "scanner": ("scanner", None),
}
MOST = 1000  # rows; a longer list is not walked by hand


def show(cohort: Path, rows: pd.DataFrame, *, key: str) -> None:
    """The rows in their order, at most MOST of them; a chosen one can be opened."""
    names = [name for name in COLUMNS if name in rows and rows[name].notna().any()]
    summary = rows[names].head(MOST).reset_index(drop=True)
    if "malignant" in summary:
        summary["malignant"] = summary["malignant"].map({1.0: "malignant", 0.0: "benign"}).fillna("unknown")
    event = st.dataframe(
        plain_table(summary),
        key=key,
        hide_index=True,
        height=min(38 + 35 * len(summary), 300),
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            name: st.column_config.NumberColumn(title, format=form) if form else st.column_config.TextColumn(title)
            for name, (title, form) in COLUMNS.items()
            if name in names
        },
    )
    if len(rows) > MOST:
        st.markdown(f":small[The first {MOST:,} of {len(rows):,}.]")
    chosen = event["selection"]["rows"]
    left, right = st.columns([1, 3], vertical_alignment="center")
    if left.button("Open the case", key=f"{key}_open", icon=":material/open_in_new:", disabled=not chosen):
        selection.set_current(selection.CaseRef(cohort, str(summary["case_id"].iloc[chosen[0]])))
        st.switch_page("../pages/case.py")
    if not chosen:
        right.markdown(":small[Tick a row to open its case.]")
