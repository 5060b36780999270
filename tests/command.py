"""The command line called inside the test's own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmssd_core import cli


def run(*arguments: str | Path) -> int:
    """`cmssd ARGUMENTS`; gives its exit status."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)
