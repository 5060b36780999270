"""Results on disk: a file is there whole or not at all; a folder that cannot be made is the user's to mend."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cmssd_core.types import InputError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file beside `path`, then rename it. Raises InputError where it cannot."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        part.replace(path)
    except OSError as problem:
        part.unlink(missing_ok=True)
        words = problem.strerror or str(problem)
        raise InputError(f"{path.name} cannot be written ({words}); choose a folder of yours with room") from None


def make_folder(path: Path) -> None:
    """Make a folder where there is none. Raises InputError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(f"no folder can be made at {path} ({problem.strerror}); choose another") from None
