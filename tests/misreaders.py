"""Readers that do what no reader should, for the fence to hold: run in its child process."""

from __future__ import annotations

import ctypes
import os
import sys
import time

import numpy as np

from cmssd_core.types import InputError


def echo(said):
    return {"said": said, "folder": os.getcwd(), "pid": os.getpid(), "array": np.arange(6.0).reshape(2, 3)}


def look_around(path):
    import resource

    names = ("RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_CORE", "RLIMIT_FSIZE")
    limits = {name: resource.getrlimit(getattr(resource, name))[0] for name in names}
    return {"environment": dict(os.environ), "limits": limits, "modules": sorted(sys.modules)}


def refuse(path):
    raise InputError("an orange came, expected an apple; give an apple", "mri")


def stumble(path):
    raise KeyError(f"{path} of Josephine Miller")


def crash(path):
    print(f"complaint about {path} of Josephine Miller", file=sys.stderr, flush=True)
    ctypes.string_at(0)


def leave(path):
    os._exit(0)


def spin(path):
    with open(os.path.join(os.environ["TMPDIR"], "left behind"), "w", encoding="utf-8") as left:
        left.write("x" * 1000)
    time.sleep(600)


def eat(path):
    return int(np.ones(3 << 30, np.uint8).sum())


def wait(path):
    with open(path, "w", encoding="utf-8") as told:
        told.write(str(os.getpid()))
    time.sleep(600)
