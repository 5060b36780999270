"""The Cohort page's frame: which cohort is open, what of it is shown, and the link that brings the view back."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from cmssd_core.cases.modalities import BOTH
from cmssd_core.types import InputError
from dashboard import cohort_view, selection
from dashboard.cohort_view import Choice, Facets, Numbers, View
from dashboard.inputs import describe_condition
from dashboard.services import cohort as cohorts
from dashboard.services import features, intake
from dashboard.services import model as predictors

FIRST_FILTERS = ("inputs", "malignant", "called", "centre")
LONGEST_LINK = 1500  # letters of row numbers
_RESTORED, _SAID = "cohort_restored", "cohort_said"


@dataclass(frozen=True, eq=False)
class Shown:
    """What the page draws. kept: positions that pass the filters, in order; chosen: bool a row, the selected ones.

    lacking: what evaluating the cohort would bring, None = nothing.
    """

    cohort: Path
    model: str | None
    given: str
    rows: pd.DataFrame
    facets: Facets
    view: View
    kept: cohort_view.Positions
    chosen: npt.NDArray[np.bool_]
    lacking: str | None = None

    def ids(self, positions: cohort_view.Positions) -> list[str]:
        """The case_ids at these rows of the table."""
        return [str(name) for name in self.rows["case_id"].to_numpy()[positions]]

    def key(self, *parts: Hashable) -> str:
        """A widget's key that holds no name."""
        return f"cohort_{selection.cohort_key(self.cohort)[:8]}_{'_'.join(map(str, parts))}"

    @property
    def current(self) -> int | None:
        """The row of the current case, None where it is none of this cohort."""
        ref = selection.current()
        if ref is None or ref.cohort != self.cohort:
            return None
        found = np.flatnonzero((self.rows["case_id"] == ref.case_id).to_numpy())
        return int(found[0]) if len(found) else None


def picker() -> Path | None:
    """Which of the known cohorts is open; None = there is none."""
    known, opened = intake.list_tables(), cohorts.get_cohort()
    if not known or opened is None:
        return None
    if len(known) == 1:
        st.markdown(f"Cohort **{_code(intake.name(opened))}**")
        return opened
    st.session_state["cohort_open"] = opened
    st.selectbox("Cohort", known, key="cohort_open", format_func=intake.name, on_change=_open, width=420)
    return opened


def _open() -> None:
    selection.set_open_cohort(st.session_state["cohort_open"])


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def read_shown(cohort: Path) -> Shown:
    """Reads the cohort and what is asked of it: model, inputs, filters, sort."""
    key = selection.cohort_key(cohort)[:8]
    rows = cohorts.table(cohort)
    left, middle, right = st.columns(
        [3, 2, 4] if len(cohorts.models(cohort)) > 1 else [5, 1, 5], vertical_alignment="bottom"
    )
    models = cohorts.models(cohort)
    model, given = (models[0] if models else None), BOTH
    if len(models) > 1:
        model = middle.selectbox("Model", models, key=f"cohort_{key}_model", persist_state="session")
    conditions = list(cohorts.conditions(cohort, model))
    if conditions:
        _keep_option(f"cohort_{key}_given", conditions)
        words = right.segmented_control(
            "What the model was given", conditions, key=f"cohort_{key}_given", default=conditions[0], required=True,
            format_func=describe_condition, persist_state="session",
        )  # fmt: skip
        given = words or conditions[0]
    rows = cohorts.join_answers(cohort, given=given, model=model)
    facets = cohorts.facets(cohort, given=given, model=model)
    with left:
        st.markdown(_summary(cohort, rows, model))
    view = _filters(key, facets)
    kept = cohort_view.positions(rows, facets, view)
    chosen = np.zeros(len(rows), dtype=bool)
    ids = selection.get_selected().case_ids
    if ids:
        places = pd.Index(rows["case_id"]).get_indexer(list(ids))
        chosen[places[places >= 0]] = True
    return Shown(cohort, model, given, rows, facets, view, kept, chosen, _lacking(cohort, model))


def _lacking(cohort: Path, model: str | None) -> str | None:
    if model is None:
        return "This cohort has no results yet: the model's answers and the plane of features come with them."
    if features.features(cohort, model) is None:
        return "These results hold no features, by which like cases are found and drawn; computing them anew adds them."
    summary = cohorts.metrics(cohort) or {}
    try:
        in_use = predictors.model().model_id
    except InputError:  # the sidebar says it
        return None
    known = [about.get("model_id") for about in summary.get("models", {}).values()] or [summary.get("model_id")]
    return (
        None
        if in_use in known
        else "These answers are not of the model in use now; computing them anew brings its answers."
    )


def _summary(cohort: Path, rows: pd.DataFrame, model: str | None) -> str:
    cases, patients = len(rows), rows["patient_id"].nunique()
    summary = cohorts.metrics(cohort) or {}
    words = f"**{cases:,}** case{'s' * (cases != 1)} of **{patients:,}** patient{'s' * (patients != 1)}"
    if model is None:
        return f"{words}; not evaluated yet."
    about = summary.get("models", {}).get(model, {})
    trained = about.get("trained") or summary.get("trained") or "not said"
    answered = int(rows["answered"].sum())
    made_by = str(about.get("model_id") or summary.get("model_id") or model)
    return f"{words}; {answered:,} answered by {_code(made_by)}.\n\n:small[Trained on: {_code(str(trained))}]"


def _filters(key: str, facets: Facets) -> View:
    """The controls of filters and sort; gives what they say now."""
    view = View()
    first = [column for column in FIRST_FILTERS if column in facets]
    names = [name for name in facets if name != "answered" or len(np.unique(_codes(facets, name))) > 1]
    _keep_options(f"cohort_{key}_by", names)
    with st.container(border=True):
        top = st.columns([4, 2, 2])
        by = top[0].multiselect(
            "Filter by", names, default=first, key=f"cohort_{key}_by", format_func=cohort_view.title,
            persist_state="session", wrap=True,
        )  # fmt: skip
        words = top[1].text_input(
            "Case or patient contains", key=f"cohort_{key}_contains", persist_state="session", live=True,
            help="Not part of the link: it may be a name.",
        )  # fmt: skip
        sorts = ["number", "case_id", *names]
        _keep_option(f"cohort_{key}_sort", sorts)
        sort = top[2].selectbox(
            "Sort by", sorts, key=f"cohort_{key}_sort", format_func=cohort_view.title, persist_state="session"
        )
        down = top[2].toggle("Largest first", key=f"cohort_{key}_down", persist_state="session")
        view = replace(view, contains=(words or "").strip(), sort=sort or "number", descending=down)
        columns = st.columns(4)
        for place, column in enumerate(by):
            with columns[place % 4]:
                view = _filter(key, column, facets[column], view)
    return view


def _codes(facets: Facets, column: str) -> npt.NDArray[np.int16]:
    facet = facets[column]
    return facet.codes if isinstance(facet, Choice) else np.zeros(2, dtype=np.int16)


def _filter(key: str, column: str, facet: Choice | Numbers, view: View) -> View:
    """One column's control; the view with what it says."""
    title = cohort_view.title(column)
    if isinstance(facet, Choice):
        counts = np.bincount(facet.codes, minlength=len(facet.labels))
        present = [label for label, n in zip(facet.labels, counts, strict=True) if n]
        name = f"cohort_{key}_f_{column}"
        _keep_options(name, present)
        chosen = st.multiselect(
            title, present, key=name, placeholder="all", persist_state="session",
            format_func=lambda label: f"{label} ({counts[facet.labels.index(label)]:,})",
        )  # fmt: skip
        places = tuple(sorted(facet.labels.index(label) for label in chosen))
        return replace(view, chosen=(*view.chosen, (column, places))) if places else view
    name = f"cohort_{key}_r_{column}"
    step = 10.0 ** np.floor(np.log10(max(facet.high - facet.low, 1e-9) / 100))
    low, high = float(np.floor(facet.low / step) * step), float(np.ceil(facet.high / step) * step)
    present = st.session_state.get(name)
    if present is not None:
        first, last = (float(min(max(v, low), high)) for v in present)
        st.session_state[name] = (first, last)
    ends = {} if present is not None else {"value": (low, high)}
    first, last = st.slider(
        title, low, high, step=float(step), key=name, persist_state="session", **ends,
        help="Cases that lack it are left out as soon as an end is moved.",
    )  # fmt: skip
    moved = first > low + step / 2 or last < high - step / 2
    return replace(view, ranges=(*view.ranges, (column, first, last))) if moved else view


def _keep_options(name: str, options: list[str]) -> None:
    present = st.session_state.get(name)
    if present is not None and any(one not in options for one in present):
        st.session_state[name] = [one for one in present if one in options]


def _keep_option(name: str, options: list[str]) -> None:
    if st.session_state.get(name, options[0]) not in options:
        st.session_state[name] = options[0]


def restore() -> None:
    """Brings back what the page's address says, once a session."""
    if st.session_state.get(_RESTORED):
        return
    st.session_state[_RESTORED] = True
    query = st.query_params.to_dict()
    if "cohort" not in query:
        return
    cohort = intake.find_linked(query["cohort"], cohorts.fingerprint)
    if cohort is None:
        st.session_state[_SAID] = (
            "The link speaks of a cohort that is not known here, or of an older state of its table; its view cannot "
            "be brought back."
        )
        return
    if cohort != cohorts.get_cohort():
        selection.set_open_cohort(cohort)
    key = selection.cohort_key(cohort)[:8]
    models = cohorts.models(cohort)
    place = query.get("model", "0")
    model = models[int(place)] if place.isdecimal() and int(place) < len(models) else None
    given = query.get("given", BOTH)
    given = given if given in cohorts.conditions(cohort, model or next(iter(models), None)) else BOTH
    if given != BOTH:
        st.session_state[f"cohort_{key}_given"] = given
    if model is not None and len(models) > 1:
        st.session_state[f"cohort_{key}_model"] = model
    facets = cohorts.facets(cohort, given=given, model=model)
    _put(key, cohort_view.from_query(query, facets), facets)
    rows = cohorts.table(cohort)["case_id"].to_numpy()
    named = next((one for one in selection.slices(cohort) if one.id == query.get("slice")), None)
    if named is not None:
        ids = [name for name in rows if selection.case_key(str(name)) in named.case_keys]
        selection.set_selected(ids, by=selection.LINK)
    elif "cases" in query:
        selection.set_selected(rows[cohort_view.unpacked(query["cases"], len(rows))], by=selection.LINK)
    at = query.get("case", "")
    if at.isdecimal() and int(at) < len(rows):
        selection.set_current(selection.CaseRef(cohort, str(rows[int(at)])))


def _put(key: str, view: View, facets: Facets) -> None:
    """Sets the widgets to a view before they are drawn."""
    columns = [column for column, *_ in (*view.chosen, *view.ranges)]
    first = [column for column in FIRST_FILTERS if column in facets]
    if columns:
        st.session_state[f"cohort_{key}_by"] = list(dict.fromkeys([*first, *columns]))
    for column, places in view.chosen:
        facet = facets[column]
        if isinstance(facet, Choice):
            st.session_state[f"cohort_{key}_f_{column}"] = [facet.labels[n] for n in places]
    for column, low, high in view.ranges:
        st.session_state[f"cohort_{key}_r_{column}"] = (low, high)
    if view.sort != "number":
        st.session_state[f"cohort_{key}_sort"] = view.sort
    if view.descending:
        st.session_state[f"cohort_{key}_down"] = True


def link(of: Shown) -> None:
    """Writes the view into the page's address: columns, places and row numbers; no name, no text that was typed."""
    summary = {"cohort": cohorts.fingerprint(of.cohort), **cohort_view.to_query(of.view)}
    models = cohorts.models(of.cohort)
    if of.given != BOTH:
        summary["given"] = of.given
    if of.model is not None and models.index(of.model):
        summary["model"] = str(models.index(of.model))
    if of.current is not None:
        summary["case"] = str(of.current)
    if of.chosen.any():
        rows = cohort_view.packed(np.flatnonzero(of.chosen))
        if len(rows) <= LONGEST_LINK:
            summary["cases"] = rows
        elif (named := _slice_of(of)) is not None:
            summary["slice"] = named
        else:
            st.markdown(":small[The selection is too scattered for this page's link; save it as a slice to link it.]")
    if st.query_params.to_dict() != summary:
        st.query_params.from_dict(summary)


def _slice_of(of: Shown) -> str | None:
    """The named slice that holds the very cases that are selected."""
    keys = frozenset(map(selection.case_key, of.ids(np.flatnonzero(of.chosen))))
    return next((one.id for one in selection.slices(of.cohort) if one.case_keys == keys), None)


def remarks() -> None:
    """What was to be said once: a link that could not be followed."""
    if _SAID in st.session_state:
        st.warning(st.session_state.pop(_SAID), icon=":material/link_off:")
