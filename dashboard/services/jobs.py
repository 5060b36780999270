"""Cohort results as jobs, for the screen: started, watched and stopped by whoever may see cases."""

from __future__ import annotations

from pathlib import Path

from cmssd_core.config import settings
from cmssd_core.studies import jobs
from cmssd_core.studies.jobs import Job, Kind
from dashboard import rights
from dashboard.services import cohort as cohorts


def of(cohort: Path, kind: Kind = "evaluate") -> Job | None:
    """The job that computes, or computed, a cohort's results or its audit; None where there was none."""
    return jobs.look(jobs.identity(_asked(cohort, kind)), settings())


def start(cohort: Path, kind: Kind = "evaluate") -> Job:
    """Starts to compute a cohort's results or audit by the model in use, or goes on; one that runs already is shared.

    Raises InputError where it cannot be started, or the session's user may not see cases.
    """
    rights.demand("cases")
    cohorts.table(cohort)  # the job reads what it is given; whether that may be opened is asked here
    return jobs.start(_asked(cohort, kind), settings())


def again(job: Job) -> Job:
    """Goes on with a job that ended."""
    rights.demand("cases")
    cohorts.table(job.ask.cohort)
    return jobs.start(job.ask, settings())


def stop(job: Job) -> None:
    """Asks a job to end; the cases at work are finished first."""
    rights.demand("cases")
    jobs.stop(job.id, settings())


def remove(job: Job) -> None:
    """Forgets a job that does not run; its results stay."""
    rights.demand("cases")
    jobs.remove(job.id, settings())


def list_jobs() -> tuple[Job, ...]:
    """All jobs of this installation, the one started last first."""
    return jobs.list_jobs(settings())


def _asked(cohort: Path, kind: Kind) -> jobs.Ask:
    out = cohorts.results_to(cohort)
    return jobs.ask(cohort, out / "audit" if kind == "audit" else out, settings(), kind=kind)
