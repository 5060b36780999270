"""Worker processes: one thread for each library, and no life without the parent."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)


def pool(
    count: int, start: Callable[..., object] | None = None, *arguments: Any, network: bool = True
) -> ProcessPoolExecutor:
    """A pool of `count` processes; each calls start(*arguments) once, when it is set up.

    network: whether what they do runs torch, which is then imported and held to one thread.
    """
    # As bytes, so that a process is bound to its parent before it imports for seconds what `start` needs.
    packed = bytes(ForkingPickler.dumps((start, arguments)))
    # spawn: torch's threads do not survive a fork
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start, (packed, network))


def die_with_parent() -> None:
    """End this process with the one that started it, however that ends and whatever this one is at.

    By the kernel on Linux, which needs no turn of Python's own; elsewhere by a thread.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None:  # it may have ended before the kernel was told
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def give_back() -> None:
    """Hands freed memory back to the system. glibc keeps it, torn, and a worker grew by a quarter over many cases."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such call
        ctypes.CDLL(None).malloc_trim(0)


def _start(packed: bytes, network: bool) -> None:
    die_with_parent()
    start, arguments = ForkingPickler.loads(packed)
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if network:
        import torch

        torch.set_num_threads(1)
    if start is not None:
        start(*arguments)


def _die_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
