"""The review mode's pieces: who reads, which case, the blind form, the model's answer after it, and agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pandas as pd
import streamlit as st

from cmssd_core.evaluation.figure import FEWEST, Figure
from cmssd_core.report.answers import EXPECTED
from cmssd_core.reviews.agreement import SEVERITY, Agreement
from cmssd_core.reviews.record import MARKS, Mark, Reading, Verdict, reader_name
from cmssd_core.tables.spreadsheet import plain_table
from cmssd_core.tasks.table import TASKS
from cmssd_core.types import Case, Prediction, Slide, Volume
from dashboard import rights, selection, state, widgets
from dashboard.inputs import describe_absent, describe_undrawn, name_modality
from dashboard.selection import CaseRef
from dashboard.services import model as models
from dashboard.services import reviews as service
from dashboard.services.reading import patches_of, site
from dashboard.viewers import mri, slide
from dashboard.viewers.layers import Overlay, PatchLayer
from dashboard.views import wording

_AT, _NAME = "review_at", "review_reader"


def reader() -> str | None:
    """Who reads: the signed-in user, or a pseudonym that is asked for; None while there is none."""
    if st.user.get("is_logged_in") is True:
        name = reader_name(str(st.user.get("email") or st.user.get("sub") or ""))
        st.markdown(f"You read as **{widgets.plain(name)}** (signed in).")
        return name
    typed = st.text_input(
        "You read as",
        value=st.session_state.get(_NAME, ""),
        key="review_reader_typed",
        placeholder="a pseudonym, e.g. reader 1",
        help="Kept with every reading. Use the same one each time; not a name by which others know you.",
    )
    st.session_state[_NAME] = typed
    if not typed.strip():
        st.info("Type a pseudonym to begin.", icon=":material/badge:")
        return None
    return reader_name(typed)


def choose(cohort: Path, name: str) -> CaseRef | None:
    """The case on the reading list that is on show, and the way to the next; None while the list is made."""
    listed = service.queue(cohort, name)
    if not listed:
        st.info("This cohort has no case.", icon=":material/info:")
        return None
    waiting = st.empty()
    done = service.read_by(cohort, listed, name, waiting.progress)
    waiting.empty()
    here = f"{selection.cohort_key(cohort)}_{name}"
    if st.session_state.get("review_list") != here:
        st.session_state["review_list"] = here
        st.session_state[_AT] = _next(done, -1)
        _begin_at_current(listed, done)
    at = min(int(st.session_state.get(_AT, 0)), len(listed) - 1)
    left, middle, right = st.columns([2, 2, 3], vertical_alignment="bottom")
    picked = left.selectbox(
        "Case", range(len(listed)), index=at, key=f"review_case_{here}_{at}",
        format_func=lambda n: f"Case {n + 1} of {len(listed)}{' – read' if done[n] else ''}",
        help="The order is your own and says nothing of the cases.",
    )  # fmt: skip
    if picked != at:
        st.session_state[_AT] = picked
        st.rerun()
    middle.button(
        "Next unread case", icon=":material/skip_next:", key="review_next", disabled=all(done),
        on_click=_go, args=(_next(done, at),),
    )  # fmt: skip
    right.progress(sum(done) / len(done), f"{sum(done)} of {len(done)} cases read")
    return listed[at]


def _begin_at_current(listed: Sequence[CaseRef], done: Sequence[bool]) -> None:
    current = selection.current()
    if current in listed and not done[listed.index(current)]:
        st.session_state[_AT] = listed.index(current)


def _next(done: Sequence[bool], after: int) -> int:
    """The first case that is not read, after this one and then from the start."""
    order = [*range(after + 1, len(done)), *range(0, after + 1)]
    return next((n for n in order if not done[n]), max(after, 0))


def _go(at: int) -> None:
    st.session_state[_AT] = at


def images(case: Case, prediction: Prediction | None) -> None:
    """MRI beside slide; bare while the reading is blind, with the model's maps once there is a prediction."""
    short = f"{case.id[:12]}_{'open' if prediction else 'blind'}"
    volume, whole = case.inputs.get("mri"), case.inputs.get("he")
    left, right = st.columns(2)
    with left:
        st.markdown(f"#### {name_modality('mri')}")
        if isinstance(volume, Volume):
            mri.viewer(volume, _overlays(prediction), key=f"review_mri_{short}", site_mm=site(case), link="review")
        else:
            st.info(describe_absent("mri"), icon=":material/info:")
    with right:
        st.markdown(f"#### {name_modality('he')}")
        if isinstance(whole, Slide):
            patches = None if prediction is None else patches_of(case, prediction)
            layers = [] if prediction is None or patches is None else _patch_layers(prediction)
            slide.viewer(whole, layers, key=f"review_slide_{short}", patches=patches, link="review")
        else:
            st.info(describe_absent("he"), icon=":material/info:")
    undrawn = describe_undrawn(case)
    if undrawn is not None:
        st.markdown(undrawn)


def _overlays(prediction: Prediction | None) -> list[Overlay]:
    maps, found = {} if prediction is None else prediction.maps, []
    if "tumour" in maps:
        found.append(
            Overlay(name="tumour", values=maps["tumour"], limits=(0.0, 1.0), shown_from=0.05,
                    meaning="the model's probability of malignant tumour")
        )  # fmt: skip
    if "bone" in maps:
        found.append(
            Overlay(name="bone", values=maps["bone"] >= 0.5, colormap="cyan", opacity=0.3, shown=False,
                    meaning="the affected bone as the model sees it, its map at 0.5 and above")
        )  # fmt: skip
    if "attention" in maps:
        found.append(
            Overlay(name="gate", values=maps["attention"], limits=(0.0, 1.0), colormap="viridis", shown=False,
                    meaning="how the model mixed its inputs: 1 = MRI, 0 = slide; not evidence")
        )  # fmt: skip
    return found


def _patch_layers(prediction: Prediction) -> list[PatchLayer]:
    attention = prediction.patch_attention
    if attention is None:
        return []
    meaning = "how much a patch counted in the pooling; not evidence"
    return [PatchLayer(name="attention", values=attention, meaning=meaning)]


def blind_form(case: Case, name: str, criteria: Mapping[str, str]) -> None:
    """Severity and criteria as the reader alone sees them; what is saved is kept for good."""
    key = f"review_{case.id[:12]}_{name}"
    seen = state.was_seen(case.id)
    with st.form(key):
        st.markdown("#### Your reading")
        st.markdown(
            ":small[The model has not been asked yet. Severity is the share of the affected bone's envelope that "
            "malignant tumour takes.]"
        )
        left, right = st.columns(2)
        severity = left.number_input(
            "Severity, %", 0.0, 100.0, None, 1.0, key=f"{key}_severity", format="%.1f", placeholder="0 to 100"
        )
        unable = right.checkbox("Severity is not assessable", key=f"{key}_unable")
        given: dict[str, Mark | None] = {}
        for criterion, meaning in criteria.items():
            given[criterion] = st.segmented_control(
                criterion.capitalize(), MARKS, format_func=str.capitalize, key=f"{key}_{criterion}", help=meaning
            )
        unseen = st.checkbox(
            "I have seen neither the model's answer on this case nor another reader's",
            key=f"{key}_unseen", disabled=seen,
            help="Only readings made like this count for agreement; others are kept and told apart.",
        )  # fmt: skip
        if seen:
            st.warning("This session has shown the model's answer on this case: the reading will be kept as not blind.")
        sent = st.form_submit_button("Save my reading", type="primary", icon=":material/save:")
    if not sent:
        return
    missing = [c for c, mark in given.items() if mark is None]
    if severity is None and not unable:
        missing.insert(0, "severity")
    if missing or (severity is not None and unable):
        both = "Severity has a number and is marked not assessable; choose one."
        st.error(both if not missing else f"Still to answer: {', '.join(missing)}.", icon=":material/error:")
        return
    marks = {criterion: mark for criterion, mark in given.items() if mark is not None}
    with widgets.guarded("saving the reading"):
        model_id = models.model().model_id
        reading = Reading(name, case.id, model_id, severity, marks, blind=unseen and not seen)
        service.reviews().add_reading(reading)
        st.rerun()


def told_reading(reading: Reading) -> None:
    """What the reader said, and when."""
    severity = "not assessable" if reading.severity_pct is None else f"{reading.severity_pct:.1f} %"
    marks = "; ".join(f"{widgets.plain(criterion)} **{mark}**" for criterion, mark in reading.marks.items())
    how = ":green-badge[blind]" if reading.blind else ":orange-badge[not blind]"
    when = "" if reading.at is None else f", {reading.at:%Y-%m-%d %H:%M} UTC"
    st.markdown(f"{how} You said: severity **{severity}**; {marks}{when}.")


def verdict_form(reading: Reading, prediction: Prediction) -> None:
    """Agree with the model, or override it with a reason; a sentence where it answers nothing that a reader judges."""
    if not set(EXPECTED) & set(prediction.answers):
        st.info(
            f"This model answers neither {' nor '.join(TASKS[name].label for name in EXPECTED)}: there is no answer to "
            "agree with. Your reading is kept, and counts between readers.",
            icon=":material/info:",
        )
        return
    key = f"verdict_{reading.token[:12]}_{prediction.model_id}"
    mine = [v for v in service.reviews().verdicts() if v.reading == reading.token and v.model_id == prediction.model_id]
    if mine:
        last = mine[-1]
        words = f"**{last.answer}**" + (f": {widgets.plain(last.reason)}" if last.reason else "")
        after = "" if last.severity_pct is None else f" Severity after: {last.severity_pct:.1f} %."
        st.success(f"Your verdict is kept: {words}.{after}", icon=":material/task_alt:")
        if not st.toggle("Change my mind", key=f"{key}_again", help="The earlier verdict stays; the last one counts."):
            return
    token = st.session_state.setdefault(f"{key}_token_{len(mine)}", uuid4().hex)
    with st.form(f"{key}_{len(mine)}"):
        st.markdown("#### Your verdict on the model's answer")
        answer = st.segmented_control("Do you agree?", ["agree", "override"], format_func=str.capitalize)
        reason = st.text_area("Reason", max_chars=2000, height=90, placeholder="needed for an override; no names")
        after = st.number_input("Severity now, % – if you changed your mind", 0.0, 100.0, None, 1.0, format="%.1f")
        sent = st.form_submit_button("Save my verdict", type="primary", icon=":material/save:")
    if not sent:
        return
    if answer is None:
        st.error("Choose **Agree** or **Override**.", icon=":material/error:")
        return
    with widgets.guarded("saving the verdict"):
        verdict = Verdict(
            reading.token, prediction.model_id, prediction.severity_pct, prediction.p_malignant, answer, reason.strip(),
            after, token=token,
        )  # fmt: skip
        service.reviews().add_verdict(verdict)
        st.rerun()


def agreement_panel() -> None:
    """Agreement between readers and with the model, with intervals and n, and the reviews as a table to take away."""
    found = service.summary()
    left, middle, right = st.columns(3)
    with left:
        widgets.show_figure("Readers", str(len(found.readers)), widgets.plain(", ".join(found.readers)) or "none yet")
    with middle:
        out = f"{found.left_out} more were not blind and don't count" if found.left_out else "all of them blind"
        widgets.show_figure("Blind readings", str(found.counted), out)
    with right:
        widgets.show_figure("Verdicts", str(found.verdicts), "given after the model's answer was seen")
    st.subheader("Between readers")
    if not found.between:
        st.info("Agreement needs two readers who read the same cases blind.", icon=":material/group:")
    _table(found.between, "readers")
    st.subheader("With the model")
    if not found.with_model:
        st.info("No reader has given a verdict after a blind reading yet.", icon=":material/info:")
    _table(found.with_model, "reader and model")
    if found.between or found.with_model:
        st.markdown(
            f":small[95 % intervals in brackets: AC1's analytic, the others by bootstrap over cases. Below {FEWEST} "
            "common cases there are too few to say. Kappa falls where nearly all answers are alike although readers "
            "agree; AC1 does not: read them together. Kappa of severity tiers is weighted by the squared distance and "
            "the tiers are unvalidated. “Not assessable” is an answer of its own. Agreement says that readers say the "
            "same, not that they are right.]"
        )
    if rights.session_may("export") and (found.counted or found.left_out):
        st.download_button(
            "All reviews (CSV)", service.table, f"cmssd_reviews_{datetime.now(UTC):%Y%m%d}.csv", "text/csv",
            key="reviews_csv", icon=":material/download:", on_click="ignore",
        )  # fmt: skip


def _table(rows: Sequence[Agreement], who: str) -> None:
    for raters in dict.fromkeys(row.raters for row in rows):
        mine = [row for row in rows if row.raters == raters]
        st.markdown("**" + " and ".join(widgets.plain(name) for name in raters) + "**")
        st.dataframe(
            plain_table(
                pd.DataFrame(
                    {
                        "question": [row.question for row in mine],
                        "same answer": [_words(row.equal) for row in mine],
                        "kappa": [_words(row.kappa) for row in mine],
                        "Gwet's AC1": [_words(row.ac1) for row in mine],
                        "ICC(A,1)": [_words(row.icc) for row in mine],
                    }
                )
            ),
            hide_index=True,
            key=f"agreement_{who}_{'_'.join(raters)}",
            alt=f"Agreement of {' and '.join(raters)}: "
            + "; ".join(f"{row.question} {_words(row.icc if row.question == SEVERITY else row.equal)}" for row in mine),
        )


def _words(figure: Figure | None) -> str:
    return "" if figure is None else wording.words(figure, 2)
