"""Long runs on screen: how far each is, stop and go on; they don't need the page that shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from dashboard import rights, widgets
from dashboard.services import jobs
from dashboard.services.jobs import Job, Kind

_EVERY_S = 2.0
_AT_WORK = ("running", "stopping")
_WORDS = {
    "running": "Running.",
    "stopping": "Stopping: the cases at work are being finished.",
    "stopped": "Stopped; what was done is kept.",
    "interrupted": "Interrupted: its process was ended from outside. What was done is kept.",
    "failed": "Ended.",
    "done": "Done.",
}


def board() -> None:
    """All jobs of this installation."""
    if not rights.session_may("cases"):
        return
    if not jobs.list_jobs():
        st.markdown("None yet. A cohort's results are computed from the **Cohort** page; they go on when you close it.")
        return
    _watched(jobs.list_jobs)


def offer(cohort: Path, *, label: str = "Compute results for this cohort", kind: Kind = "evaluate") -> None:
    """How a cohort's job stands, or a button that starts it. The page is drawn anew when it ends."""
    if not rights.session_may("cases"):
        return
    job = jobs.of(cohort, kind)
    if job is not None and job.state != "done":
        _watched(lambda: [found for found in [jobs.of(cohort, kind)] if found])
        return
    if st.button(
        label, key="compute_results" if kind == "evaluate" else f"compute_{kind}", icon=":material/calculate:"
    ):
        with widgets.guarded("starting the job"):
            jobs.start(cohort, kind)
            st.rerun()
    many = "every case" if kind == "evaluate" else "40 cases at most"
    st.markdown(f":small[By the model in use, {many}. It goes on when this page is closed.]")


def _watched(look: Callable[[], Sequence[Job]]) -> None:
    """Draws some jobs every few seconds while one is at work, and the whole page once none is any more."""
    at_work = any(job.state in _AT_WORK for job in look())

    def draw() -> None:
        with widgets.guarded("looking at the jobs"):
            found = look()
            if at_work and not any(job.state in _AT_WORK for job in found):
                st.rerun()
            for job in found:
                _line(job)

    st.fragment(draw, run_every=_EVERY_S if at_work else None)()


def _line(job: Job) -> None:
    with st.container(border=True):
        text, stop, forget = st.columns([6, 1.3, 1.3], vertical_alignment="center")
        name = widgets.plain(job.ask.cohort.parent.name)
        what = "Audit" if job.ask.kind == "audit" else "Results"
        text.markdown(f"**{what} of {name}** – {_WORDS[job.state]} {_told(job)} :gray[Started {_ago(job.started_s)}.]")
        if job.state != "done":
            text.progress(
                job.done / job.of if job.of else 0.0, f"{job.done} of {job.of} cases" if job.of else "starting"
            )
        if job.state in _AT_WORK:
            if stop.button("Stop", key=f"stop_{job.id}", icon=":material/stop:", disabled=job.state == "stopping"):
                jobs.stop(job)
                st.rerun()
            return
        label = "Again" if job.state == "done" else "Go on"
        if stop.button(label, key=f"go_{job.id}", icon=":material/play_arrow:"):
            jobs.again(job)
            st.rerun()
        if forget.button("Forget", key=f"forget_{job.id}", icon=":material/close:", help="The results stay."):
            jobs.remove(job)
            st.rerun()


def _told(job: Job) -> str:
    if job.state == "done":
        refused = "none was refused" if not job.refused else f"{job.refused} refused, the table says why"
        return f"{job.of} cases, {refused}."
    return widgets.plain(job.sentence or "")


def _ago(then_s: float) -> str:
    minutes = max(0, int((time.time() - then_s) / 60))
    if minutes < 1:
        return "just now"
    return f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago"
