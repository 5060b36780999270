"""What one session remembers: typed getters and setters, so that no page spells a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakKeyDictionary

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cmssd_core.types import Case, Prediction, Slide

_RESULT, _PINNED, _KEPT, _FOLDER, _SEEN = (
    "cmssd_result",
    "cmssd_pinned_result",
    "cmssd_kept_",
    "cmssd_folder",
    "cmssd_seen",
)

_folders: WeakKeyDictionary[TemporaryDirectory[str], str] = WeakKeyDictionary()  # -> id of its session
_gone_since_s: dict[str, float] = {}


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

    @property
    def key(self) -> str:
        """Tells this case from others, and from the same bytes with another scale or place of the slide."""
        slide = self.case.inputs.get("he")
        return f"{self.case.id} {slide.mpp} {slide.site_mm}" if isinstance(slide, Slide) else self.case.id


def folder() -> Path:
    """The session's own folder for patient data, readable by this user only; gone when the session or program ends."""
    # Not in st.cache_resource(scope="session"): Streamlit empties that whenever the connection drops for a moment,
    # while the session's state waits for the browser to come back.
    if _FOLDER not in st.session_state or not Path(st.session_state[_FOLDER].name).is_dir():
        st.session_state[_FOLDER] = TemporaryDirectory(prefix="cmssd-session-", ignore_cleanup_errors=True)
        context = get_script_run_ctx()
        _folders[st.session_state[_FOLDER]] = context.session_id if context is not None else ""
    return Path(st.session_state[_FOLDER].name)


def remove_folders() -> None:
    """Removes the folders of all sessions: the server stops."""
    for each in list(_folders):
        each.cleanup()


def sweep(*, connected: Callable[[str], bool], now_s: float, after_s: float = 300.0) -> None:
    """Removes the folders of sessions that have been gone for `after_s`; to be called every now and then.

    Streamlit keeps the state of a session that is gone, and so its folder, for longer than its time to live says.
    """
    for each, session in list(_folders.items()):
        if connected(session):
            _gone_since_s.pop(session, None)
        elif now_s - _gone_since_s.setdefault(session, now_s) >= after_s:
            each.cleanup()
            del _folders[each]


def result() -> Result | None:
    """The session's last result."""
    return st.session_state.get(_RESULT)


def set_result(value: Result | None) -> None:
    """Remembers a result across reruns and pages."""
    st.session_state[_RESULT] = value
    if value is not None:
        saw(value.case.id)


def saw(case_id: str) -> None:
    """Remembers that this session showed the model's answer on a case, by its content id: no reading is blind now."""
    st.session_state.setdefault(_SEEN, set()).add(case_id)


def was_seen(case_id: str) -> bool:
    """Whether this session showed the model's answer on a case."""
    return case_id in st.session_state.get(_SEEN, ())


def pinned_result() -> Result | None:
    """The result of the case that is pinned for comparison."""
    return st.session_state.get(_PINNED)


def set_pinned_result(value: Result | None) -> None:
    """Remembers the pinned case's result beside the current one's."""
    st.session_state[_PINNED] = value
    if value is not None:
        saw(value.case.id)


def get_uploads(slot: str) -> Kept | None:
    """The files uploaded into a slot ("mri", "he"), also after a visit to another page."""
    present: Kept | None = st.session_state.get(_KEPT + slot)
    return present if present is not None and all(path.exists() for path in present.paths) else None


def keep(slot: str, value: Kept) -> None:
    """Remembers the files of a slot."""
    st.session_state[_KEPT + slot] = value


def forget(slot: str) -> None:
    """Forgets the files of a slot: their upload changed."""
    st.session_state.pop(_KEPT + slot, None)
