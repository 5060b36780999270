"""Work that takes a while: a bar and a way to cancel once half a second has passed, gone when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import streamlit as st

from dashboard.services.model import Progress

SHOWN_AFTER_S = 0.5
_STOPPED = "cmssd_stopped"


@contextmanager
def progress(doing: str, key: str, *, on_cancel: Callable[[], None] | None = None) -> Iterator[Progress]:
    """Gives what the work calls to say how far it is. Cancel ends the work at its next word.

    on_cancel: what else a press does; None = it is remembered for `was_stopped`.
    """
    cancel = on_cancel or partial(_stop, key)
    place, started = st.empty(), time.perf_counter()
    shown: list[Any] = []

    def tell(share: float, what: str) -> None:
        if time.perf_counter() - started < SHOWN_AFTER_S:
            return
        if not shown:
            box = place.container(border=True)
            shown.append(box.empty())
            box.button("Cancel", key=f"cancel_{key}", on_click=cancel, icon=":material/close:")
        shown[0].progress(min(max(share, 0.0), 1.0), f"{doing}: {what}")

    try:
        yield tell
    finally:
        if shown:
            place.empty()


def was_stopped(key: str) -> bool:
    """Whether this work was cancelled just now; said once, so that the next press starts it again."""
    if st.session_state.get(_STOPPED) != key:
        return False
    del st.session_state[_STOPPED]
    return True


def _stop(key: str) -> None:
    st.session_state[_STOPPED] = key
