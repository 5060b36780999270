"""The model in use, kept warm and shared by all sessions, and the lock under which it works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import streamlit as st

from cmssd_core.config import Settings, settings

if TYPE_CHECKING:
    from cmssd_core.inference.predict import Predictor

Progress = Callable[[float, str], None]


@st.cache_resource(show_spinner="Loading the model")
def _predictor(key: str, _chosen: Settings) -> Predictor:
    from cmssd_core.inference import predict as inference

    return inference.load(_chosen.weights, settings=_chosen)


@st.cache_resource(show_spinner=False)
def lock(model_id: str) -> threading.Lock:
    """One lock a model: Captum hooks it, so neither predict nor explain may run beside an explanation."""
    return threading.Lock()


def model() -> Predictor:
    """The model in use, shared by all sessions. InputError where its weights cannot be read."""
    chosen = settings()
    return _predictor(chosen.model_dump_json(), chosen)


def answers(task: str) -> bool:
    """Whether the model in use answers a task of TASKS."""
    return task in model().model.tasks


def read_of_rows() -> tuple[str, ...]:
    """The modalities that are read of a cohort's row: those that every page shows, and what the model in use needs."""
    from cmssd_core.cohort.table import READ_BY_ALL

    return tuple(dict.fromkeys((*READ_BY_ALL, *model().model.needs)))


def describe_inputs() -> str:
    """What the model in use reads: "MRI (T1, CT) and H&E slide"."""
    from cmssd_core.cases.modalities import MODALITIES
    from cmssd_core.models.spec import VolumeSpec

    words = []
    for name, spec in model().spec.items():
        contrasts = ", ".join(each.upper() for each in spec.contrasts) if isinstance(spec, VolumeSpec) else ""
        words.append(MODALITIES[name].label + (f" ({contrasts})" if contrasts else ""))
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def describe_tasks() -> str:
    """What the model in use answers: "malignancy, tumour map and severity"."""
    from cmssd_core.tasks.table import TASKS

    words = [task.label for name, task in TASKS.items() if name in model().model.tasks]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


@contextmanager
def at_work(model_id: str, progress: Progress) -> Iterator[None]:
    """Holds the model's lock; says so while another session has it."""
    held = lock(model_id)
    while not held.acquire(timeout=0.5):
        progress(0.0, "waiting: the model is at work for another session")
    try:
        yield
    finally:
        held.release()


def examine() -> tuple[Any, ...]:
    """The checks of cmssd_core.machine.doctor on this installation."""
    from cmssd_core.machine import doctor

    return tuple(doctor.examine(settings()))
