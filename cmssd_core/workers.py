"""Worker processes: one thread for each library, and no life without the parent."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any

import SimpleITK as sitk
import torch


def pool(count: int, start: Callable[..., object] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    """A pool of `count` processes; each calls start(*arguments) once, when it is set up."""
    # spawn: torch's threads do not survive a fork
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start, (start, arguments))


def give_back() -> None:
    """Hands freed memory back to the system. glibc keeps it, torn, and a worker grew by a quarter over many cases."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such call
        ctypes.CDLL(None).malloc_trim(0)


def _start(start: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if start is not None:
        start(*arguments)


def _die_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
