"""How much the reading of a case's files may take in the dashboard, which serves others meanwhile."""

from __future__ import annotations

from pathlib import Path

from cmssd_core.config import settings
from cmssd_core.machine.fence import Fence


def fence(*, within: Path | None = None) -> Fence:
    """The fence that this installation's settings make. within: the folder that what is read passes through."""
    chosen = settings()
    return Fence(memory_mb=chosen.reading_memory_mb, seconds=chosen.reading_seconds, within=within)
