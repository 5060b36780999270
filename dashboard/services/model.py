"""The model in use, kept warm and shared by all sessions, and the lock under which it works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import streamlit as st

from cmssd_core.config import Settings, settings

if TYPE_CHECKING:
    from cmssd_core.inference import Predictor

Progress = Callable[[float, str], None]


@st.cache_resource(show_spinner="Loading the model")
def _predictor(key: str, _chosen: Settings) -> Predictor:
    from cmssd_core import inference

    return inference.load(_chosen.weights, settings=_chosen)


@st.cache_resource(show_spinner=False)
def lock(model_id: str) -> threading.Lock:
    """One lock a model: Captum hooks it, so neither predict nor explain may run beside an explanation."""
    return threading.Lock()


def model() -> Predictor:
    """The model in use, shared by all sessions. InputError where its weights cannot be read."""
    chosen = settings()
    return _predictor(chosen.model_dump_json(), chosen)


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
    """The checks of cmssd_core.doctor on this installation."""
    from cmssd_core import doctor

    return tuple(doctor.examine(settings()))
