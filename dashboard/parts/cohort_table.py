"""The Cohort page's table, the selected set with its named slices, and the current case with those like it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from cmssd_core.evaluation.metrics import METRICS, drawn_names, names_at
from cmssd_core.report.answers import MEANINGS
from cmssd_core.tables.spreadsheet import plain_table
from dashboard import cohort_view, selection, widgets
from dashboard.parts import cohort_plots as plots
from dashboard.parts.cohort import Shown
from dashboard.services import features

PAGE = 500  # rows sent to the browser at a time
LIKE = 8
_CELL = "cohort_cell"
#: column -> format of its numbers, None = words. Shown where any case has it.
COLUMNS = {
    "case_id": None,
    "malignant": None,
    "p_malignant": "%.3f",
    "severity_pct": "%.1f",
    "interval": None,
    "severity_true": "%.1f",
    "risk": "%+.2f",
    **{name: f"%.{METRICS[name].digits.narrow}f" for name in drawn_names() if name in names_at("main")},
    "inputs": None,
    "age_years": "%.0f",
    "sex": None,
    "centre": None,
    "scanner": None,
    "split": None,
    "tissue_class": None,
    "patient_id": None,
    "problem": None,
}
_TITLES = {"p_malignant": "p malignant", "interval": "90 % interval", "patient_id": "Patient", "problem": "Refused"}
_HELP = {
    "p_malignant": "Calibrated probability of malignancy by the model above; empty where it gave no answer.",
    "severity_pct": "Share of the bone's envelope taken by malignant tumour, by the model; empty without an MRI.",
    "risk": f"Log hazard by the model: {MEANINGS['risk']}.",
    "interval": "Conformal interval of the severity; its coverage holds for cases like those it was calibrated on.",
    "severity_true": "From the table, else from the masks.",
    "problem": "Why the case could not be read.",
}


def bar(of: Shown) -> None:
    """What is selected, and what can be done with it."""
    count, inside = int(of.chosen.sum()), int(of.chosen[of.kept].sum())
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        words = f"**{len(of.kept):,}** of {len(of.rows):,} cases shown; **{count:,} selected**"
        st.markdown(words + (f", {count - inside:,} of them not shown" if inside < count else ""), width="content")
        st.button("Clear", key="cohort_clear", on_click=_set, args=([],), disabled=not count, icon=":material/close:",
                  help="Select nothing")  # fmt: skip
        st.button("Select all shown", key="cohort_all", on_click=lambda: _set(of.ids(of.kept)),
                  disabled=not len(of.kept), icon=":material/select_all:")  # fmt: skip
        st.button("Invert", key="cohort_invert", on_click=lambda: _set(of.ids(of.kept[~of.chosen[of.kept]])),
                  disabled=not len(of.kept), icon=":material/flip:",
                  help="Select the cases shown that are not selected now")  # fmt: skip
        with st.popover("Slices", icon=":material/bookmark:"):
            _slices(of, count)


def _set(case_ids: list[str]) -> None:
    selection.set_selected(case_ids, by=selection.SLICE)


def _slices(of: Shown, count: int) -> None:
    """Saves the selection under a name, and brings one back."""
    with st.form("cohort_slice_form", border=False, clear_on_submit=True):
        name = st.text_input(
            "Name of a new slice", max_chars=60, key="cohort_slice_name",
            help="Seen by all who open this cohort here; no patient's name, please.",
        )  # fmt: skip
        if st.form_submit_button(f"Save the {count:,} selected", disabled=not count, icon=":material/bookmark_add:"):
            with widgets.guarded("saving the slice"):
                selection.save_slice(of.cohort, name, of.ids(np.flatnonzero(of.chosen)))
    present = selection.slices(of.cohort)
    if not present:
        st.markdown(":small[No slice of this cohort is saved yet.]")
    for one in present:
        left, right = st.columns([4, 1])
        left.button(
            f"{one.name} ({len(one.case_keys):,})", key=f"cohort_take_{one.id}", width="stretch",
            on_click=_take, args=(of, one), help=f"Saved {one.made:%Y-%m-%d %H:%M} UTC. Select these cases.",
        )  # fmt: skip
        right.button("", key=f"cohort_drop_{one.id}", icon=":material/delete:", help="Delete the slice",
                     on_click=selection.delete_slice, args=(of.cohort, one.id))  # fmt: skip


def _take(of: Shown, one: selection.NamedSlice) -> None:
    ids = [name for name in map(str, of.rows["case_id"]) if selection.case_key(name) in one.case_keys]
    _set(ids)


def table(of: Shown) -> None:
    """The cases shown, PAGE rows at a time; a ticked row is selected, a clicked cell makes its case the current one."""
    if not len(of.kept):
        st.info("No case passes these filters; widen or clear one.", icon=":material/filter_alt_off:")
        return
    turn = plots.follow("table")
    order = _ordered(of, turn)
    count, page = -(-len(order) // PAGE), 1
    if count > 1:
        name = of.key("page")
        if st.session_state.get(name, 1) > count:
            st.session_state[name] = 1
        page = st.pagination(count, key=name, persist_state="session")
    here = order[(page - 1) * PAGE : page * PAGE]
    ids = of.ids(here)
    key = of.key("table", turn, page, *_print(of))
    ticked = np.flatnonzero(of.chosen[here]).tolist()
    st.dataframe(
        plain_table(_told(of, here)), key=key, hide_index=True, height=min(40 + 35 * len(here), 640), placeholder="–",
        on_select=partial(_on_table, of, tuple(ids), key), selection_mode=("multi-row", "single-cell"),
        selection_default={"selection": {"rows": ticked}},
        column_config=_config(of.rows), alt=f"{len(of.kept):,} cases with their label and what the model answers",
    )  # fmt: skip
    more = (
        f" Rows {(page - 1) * PAGE + 1:,} to {(page - 1) * PAGE + len(here):,}; a column's own arrow sorts these "
        "alone, “Sort by” all."
        if count > 1
        else ""
    )
    st.markdown(f":small[Tick rows to select, click a cell to read its case. Selected ones stand first.{more}]")


def _print(of: Shown) -> tuple[str, ...]:
    """Changes with what the rows of the table are: its widget is made anew then."""
    summary = repr((of.view, of.given, of.model))
    return (selection.case_key(summary)[:8],)


def _ordered(of: Shown, turn: int) -> cohort_view.Positions:
    """The rows shown, those first that were selected elsewhere. Ticking rows does not move them."""
    present = st.session_state.get("cohort_front")
    if present is None or present[0] != turn:
        present = st.session_state["cohort_front"] = (turn, selection.get_selected().case_ids)
    if not present[1]:
        return of.kept
    front = of.rows["case_id"].isin(list(present[1])).to_numpy()[of.kept]
    ordered: cohort_view.Positions = np.concatenate([of.kept[front], of.kept[~front]])
    return ordered


def _told(of: Shown, here: cohort_view.Positions) -> pd.DataFrame:
    """The cells: missing stays missing."""
    part = of.rows.iloc[here].reset_index(drop=True)
    if {"severity_low", "severity_high"} <= set(part.columns):
        both = zip(part["severity_low"], part["severity_high"], strict=True)
        part = part.assign(interval=[None if low != low else f"{low:.1f} to {high:.1f}" for low, high in both])
    part = part.assign(malignant=part["malignant"].map({1.0: "malignant", 0.0: "benign"}))
    return part[[name for name in COLUMNS if name in part and _worth(of.rows, name)]]


def _worth(rows: pd.DataFrame, name: str) -> bool:
    if name == "patient_id":
        return bool((rows["patient_id"] != rows["case_id"]).any())
    source = "severity_low" if name == "interval" else name
    return source in rows and bool(rows[source].notna().any())


def _config(rows: pd.DataFrame) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, form in COLUMNS.items():
        title = _TITLES.get(name, cohort_view.title(name))
        if name == "interval" and "uncertainty_coverage" in rows:
            covered = rows["uncertainty_coverage"].dropna()
            title = f"{covered.iloc[0]:.0%} interval" if len(covered) else "interval"
        kind = st.column_config.NumberColumn if form else st.column_config.TextColumn
        more = {"format": form} if form else {}
        found[name] = kind(title, help=_HELP.get(name), pinned=True if name == "case_id" else None, **more)
    return found


def _on_table(of: Shown, ids: tuple[str, ...], key: str) -> None:
    summary = st.session_state[key]["selection"]
    cell = tuple(summary["cells"][0]) if summary["cells"] else None
    if cell is not None and st.session_state.get(_CELL) != (key, cell):
        selection.set_current(selection.CaseRef(of.cohort, ids[int(cell[0])]))
    st.session_state[_CELL] = (key, cell)
    before = selection.get_selected().case_ids
    selection.set_selected((before - set(ids)) | {ids[row] for row in summary["rows"]}, by=selection.TABLE)
    plots.note_selection("table")


def current(of: Shown) -> None:
    """The case that is being read, what one can do with it, and the cases like it."""
    row = of.current
    st.subheader("Current case", anchor=False)
    if row is None:
        st.markdown("Click a cell of the table or a point of the plane to make its case the current one.")
        return
    case = of.rows.iloc[row]
    ref = selection.CaseRef(of.cohort, str(case["case_id"]))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**`{ref.case_id}`**: {_words(case)}", width="stretch")
        if st.button("Read it", type="primary", key="cohort_read", icon=":material/radiology:"):
            st.switch_page("../pages/case.py")
        pinned = selection.get_pinned() == ref
        st.button("Unpin" if pinned else "Pin", key="cohort_pin", icon=":material/keep:", on_click=selection.set_pinned,
                  args=(None if pinned else ref,), help="It stands beside others on the Case page")  # fmt: skip
    if isinstance(case["problem"], str):
        st.warning(f"It was refused: {case['problem']}", icon=":material/block:")
    like = features.alike(of.cohort, of.model, row, LIKE)
    if like is None:
        st.markdown(":small[Its features are not known, so no like case can be named.]")
        return
    rows = like["row"].to_numpy()
    st.markdown(f"**The {len(like)} cases most like it** by what the model saw in them:")
    summary = _told(of, rows)
    summary.insert(1, "distance", like["distance"].to_numpy())
    keep = [c for c in ("case_id", "distance", "malignant", "p_malignant", "severity_pct", "severity_true", "risk",
                        "dice", "inputs", "centre") if c in summary]  # fmt: skip
    ids = of.ids(rows)
    key = of.key("like", row, selection.get_selected().turn)
    st.dataframe(
        plain_table(summary[keep]), key=key, hide_index=True, placeholder="–",
        on_select=partial(_on_like, of, tuple(ids), key),
        selection_mode="single-cell", alt="Cases like the current one with their distance",
        column_config=_config(of.rows) | {"distance": st.column_config.NumberColumn(
            "Distance", format="%.2f", help="Distance of the z-scored features, as a share of the median distance to "
            "all other cases: 1 = as far as most.")},
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Select them", key="cohort_like", icon=":material/hub:", on_click=_set, args=([ref.case_id, *ids],))
        st.markdown(":small[Near means alike to the model, which may err on both. Click to read one.]", width="stretch")


def _words(case: pd.Series) -> str:
    label = {1.0: "malignant", 0.0: "benign"}.get(case["malignant"], "label not known")
    words = [label, str(case["inputs"])]
    if case["p_malignant"] == case["p_malignant"]:
        words.append(f"p malignant {case['p_malignant']:.3f}")
    if case["severity_pct"] == case["severity_pct"]:
        low, high = case.get("severity_low"), case.get("severity_high")
        doubt = "interval not calibrated" if low is None or low != low else f"{low:.1f} to {high:.1f}"
        words.append(f"severity {case['severity_pct']:.1f} % ({doubt})")
    if case["risk"] == case["risk"]:
        words.append(f"log hazard {case['risk']:+.2f}")
    if case["severity_true"] == case["severity_true"]:
        words.append(f"truth {case['severity_true']:.1f} %")
    return ", ".join(words)


def _on_like(of: Shown, ids: tuple[str, ...], key: str) -> None:
    cells = st.session_state[key]["selection"]["cells"]
    if cells:
        selection.set_current(selection.CaseRef(of.cohort, ids[int(cells[0][0])]))
