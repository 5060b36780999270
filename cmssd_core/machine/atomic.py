"""Results on disk: a file is there whole or not at all, and files that belong together come from one run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

from cmssd_core.types import InputError

Write = Callable[[Path], object]

_PART = re.compile(r"\..+\.[0-9a-f]{12}\.part")  # a file on its way; a killed process leaves it
_LEFT_S = 3600.0  # one that is older is nobody's


def write_atomic(path: Path, write: Write) -> None:
    """Let `write` write a file beside `path`, then rename it. Raises InputError where it cannot; then all is as it was.

    Threads and processes may write the same file at once: the last one's stays, whole.
    """
    write_together({path: write})


def write_together(files: Mapping[Path, Write]) -> None:
    """Let each function write its file of one folder, then rename them all; the last one named seals the others.

    The seal of before is taken away first and the new one comes last, so where there is a seal, the others are those
    it was written with, whenever the process was killed. Raises InputError where one cannot be written; then all files
    are as they were.
    """
    parts = {path: path.with_name(f".{path.name}.{uuid4().hex[:12]}.part") for path in files}
    *_, seal = files
    path = seal
    try:
        for path, write in files.items():
            write(parts[path])
            _sync(parts[path])
        with claim(seal.parent, wait=True) if len(parts) > 1 else contextlib.nullcontext():
            if len(parts) > 1:
                seal.unlink(missing_ok=True)
            for path, part in parts.items():
                part.replace(path)
    except _refusals() as problem:
        words = getattr(problem, "strerror", None) or str(problem)
        raise InputError(f"{path.name} cannot be written ({words}); choose a folder of yours with room") from None
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder where there is none, and sweep out what killed processes left on its way into it.

    Raises InputError where that cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        for left in path.iterdir():
            if _PART.fullmatch(left.name):
                with contextlib.suppress(OSError):  # another process removes it, or finishes it
                    if time.time() - left.lstat().st_mtime > _LEFT_S:
                        left.unlink()
    except OSError as problem:
        raise InputError(f"no folder can be made at {path} ({problem.strerror}); choose another") from None


@contextlib.contextmanager
def claim(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only process that writes into a folder; a killed one lets go of it.

    Raises InputError where another has claimed it and one does not `wait`.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise InputError(
                f"another process writes into {folder.name}; wait until it has ended, or name another folder", "out"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Have it on the disk: a rename may outlive a power cut that what it names does not."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _refusals() -> tuple[type[Exception], ...]:
    """What a disk's refusal is raised as; asked for only then, because not every command needs safetensors."""
    from safetensors import SafetensorError

    return OSError, SafetensorError
