"""What one session remembers: typed getters and setters, so that no page spells a key."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakSet

import streamlit as st

from cmssd_core.types import Case, Prediction

_RESULT, _KEPT, _FOLDER = "cmssd_result", "cmssd_kept_", "cmssd_folder"

_folders: WeakSet[TemporaryDirectory[str]] = WeakSet()


@dataclass(frozen=True)
class Kept:
    """Files a session uploaded, under names of ours: each of `paths` in order, or a folder of them all.

    names: our name -> the user's, which may be a person's: for this session's own screen only.
    """

    paths: tuple[Path, ...]
    folder: Path
    size_bytes: int
    names: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Result:
    """An admitted case and what the model says of it; html and archive are the downloads, made once.

    request: what was asked for, to be compared with what the screen asks for now.
    """

    request: object
    case: Case
    prediction: Prediction
    html: bytes
    archive: bytes


def folder() -> Path:
    """The session's own folder for patient data, readable by this user only; gone when the session or program ends."""
    # Not in st.cache_resource(scope="session"): Streamlit empties that whenever the connection drops for a moment,
    # while the session's state waits for the browser to come back.
    if _FOLDER not in st.session_state:
        gc.collect()  # sessions that ended are circles of references; their folders go with them
        st.session_state[_FOLDER] = TemporaryDirectory(prefix="cmssd-session-", ignore_cleanup_errors=True)
        _folders.add(st.session_state[_FOLDER])
    return Path(st.session_state[_FOLDER].name)


def remove_folders() -> None:
    """Removes the folders of all sessions: the server stops."""
    for each in list(_folders):
        each.cleanup()


def result() -> Result | None:
    """The session's last result."""
    return st.session_state.get(_RESULT)


def set_result(value: Result | None) -> None:
    """Remembers a result across reruns and pages."""
    st.session_state[_RESULT] = value


def kept(slot: str) -> Kept | None:
    """The files uploaded into a slot ("mri", "he"), also after a visit to another page."""
    return st.session_state.get(_KEPT + slot)


def keep(slot: str, value: Kept) -> None:
    """Remembers the files of a slot."""
    st.session_state[_KEPT + slot] = value


def forget(slot: str) -> None:
    """Forgets the files of a slot: their upload changed."""
    st.session_state.pop(_KEPT + slot, None)
