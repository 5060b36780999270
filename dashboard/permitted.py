"""The folder whose files may be opened at a user's word: with sign-in the one of CMSSD_COHORT, else any."""

from __future__ import annotations

import os
from pathlib import Path

from dashboard.config import dashboard_settings

SHIPPED = Path(__file__).resolve().parents[1] / "data_samples"


def root() -> Path | None:
    """The folder below which cohorts and what they name must lie, links followed; None = anywhere, as no one signs in.

    Without CMSSD_COHORT it is the demo cohort's.
    """
    if not dashboard_settings().sign_in:
        return None
    given = Path(os.environ.get("CMSSD_COHORT") or SHIPPED).resolve()
    return given if given.is_dir() else given.parent
