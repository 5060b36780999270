"""What a session lets its own browser fetch: volumes, maps, slides and outlines, under a secret of the session.

A viewer hands its data over here and gives the browser addresses to fetch it by. An address alone opens nothing. It
names the session's secret (256 random bits), and a request must also bring the cookie of the browser that the session
belongs to: set by `cookie` below when the page itself was fetched, kept from scripts (HttpOnly) and from other sites
(SameSite), and read by the session when its web socket opened. So an address that leaked by a log, a screenshot or the
browser's history shows nothing to another browser, and one session never reaches another's data unless both run in
one browser. With sign-in, the routes ask for the right to see cases besides (rights.py). What a session holds is
dropped when it is gone (`sweep`), and what is out of use when it grows too large.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cmssd_core.slide.stain import Stain
from cmssd_core.types import Affine, Slide
from dashboard import headers
from dashboard.viewers import tiles

COOKIE = "cmssd_browser"
#: A session's arrays out of use are dropped above this; the newest KEPT stay whatever their size.
LIMIT_BYTES, KEPT = 400_000_000, 16
_KEY = "cmssd_holding"
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, eq=False)
class HeldVolume:
    """One image (z, y, x) and its voxel (x, y, z) -> RAS+ mm."""

    values: npt.NDArray[Any]
    affine: Affine


@dataclass(frozen=True, eq=False)
class HeldSlide:
    """A slide in the scanner's colours, or with its stain normalised to the reference."""

    slide: Slide
    stain: Stain | None


Held = HeldVolume | HeldSlide | bytes


@dataclass(eq=False)
class Holding:
    """All that one session's browser may fetch. `browser` is the cookie it must bring, None = it brought none."""

    session: str
    browser: str | None
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    things: OrderedDict[str, Held] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, name: str, thing: Held) -> str:
        """Holds a thing under a name that says its content; gives the address to fetch it by, without suffix."""
        with self.lock:
            self.things.setdefault(name, thing)
            self.things.move_to_end(name)
            size = sum(_size(each) for each in self.things.values())
            while size > LIMIT_BYTES and len(self.things) > KEPT:
                size -= _size(self.things.popitem(last=False)[1])
        return f"/held/{self.secret}/{name}"

    def get(self, name: str) -> Held | None:
        """A thing by its name."""
        with self.lock:
            return self.things.get(name)


_holdings: dict[str, Holding] = {}
_gone_since_s: dict[str, float] = {}
_lock = threading.Lock()
_digests: dict[int, tuple[weakref.ref[npt.NDArray[Any]], dict[tuple[Any, ...], str]]] = {}


def mine() -> Holding:
    """The holding of the session that runs now, made at first use."""
    holding: Holding | None = st.session_state.get(_KEY)
    if holding is None or holding.secret not in _holdings:
        context = get_script_run_ctx()
        holding = Holding(session=context.session_id if context is not None else "", browser=None)
        st.session_state[_KEY] = holding
        with _lock:
            _holdings[holding.secret] = holding
    brought = st.context.cookies.get(COOKIE)
    holding.browser = brought if isinstance(brought, str) and _SECRET.fullmatch(brought) else None
    return holding


def find_holding(secret: str, browser: str | None) -> Holding | None:
    """The holding of this secret, where the request came from the browser it belongs to."""
    with _lock:
        holding = _holdings.get(secret)
    if holding is None or holding.browser is None or browser is None:
        return None
    return holding if secrets.compare_digest(holding.browser.encode(), browser.encode()) else None


def is_owner(session: str, browser: str | None) -> bool:
    """Whether a session belongs to this browser; of a session that has not drawn a page yet nobody is the owner."""
    with _lock:
        found = [holding for holding in _holdings.values() if holding.session == session]
    return any(find_holding(holding.secret, browser) is not None for holding in found)


def sweep(*, connected: Callable[[str], bool], now_s: float, after_s: float = 300.0) -> None:
    """Drops what sessions hold that have been gone for `after_s`, as state.sweep does with their folders."""
    gone: set[Path] = set()
    with _lock:
        for secret, holding in list(_holdings.items()):
            if connected(holding.session):
                _gone_since_s.pop(secret, None)
            elif now_s - _gone_since_s.setdefault(secret, now_s) >= after_s:
                del _holdings[secret], _gone_since_s[secret]
                gone |= _slides(holding)
                holding.things.clear()
        kept = {path for holding in _holdings.values() for path in _slides(holding)}
    for path in gone - kept:
        tiles.forget(path)


def _slides(holding: Holding) -> set[Path]:
    with holding.lock:
        return {thing.slide.path for thing in holding.things.values() if isinstance(thing, HeldSlide)}


def digest(values: npt.NDArray[Any]) -> str:
    """sha256 of an array's values, shape and type; of a read-only array it is taken once while the array lives."""
    owner = values.base if isinstance(values.base, np.ndarray) else values
    if values.flags.writeable or owner.flags.writeable:
        return _digest(values)
    place = (values.__array_interface__["data"][0], values.shape, values.strides, values.dtype.str)
    known = _digests.get(id(owner))
    if known is None or known[0]() is not owner:
        number = id(owner)
        known = (weakref.ref(owner, lambda _: _digests.pop(number, None)), {})
        _digests[number] = known
    if place not in known[1]:
        known[1][place] = _digest(values)
    return known[1][place]


def _digest(values: npt.NDArray[Any]) -> str:
    hashed = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    hashed.update(np.ascontiguousarray(values).view(np.uint8).reshape(-1).data)
    return hashed.hexdigest()


def _size(thing: Held) -> int:
    if isinstance(thing, HeldVolume):
        return thing.values.nbytes
    return len(thing) if isinstance(thing, bytes) else 0


def cookie(app: ASGIApp) -> ASGIApp:
    """Gives every browser that fetches a page a secret of its own, which its sessions are then bound to."""

    async def with_cookie(scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ()))
        asks_page = scope["type"] == "http" and b"text/html" in given.get(b"accept", b"")
        if not asks_page:
            await app(scope, receive, send)
            return
        # Else the page might come back from the browser's cache after its cookie is gone, and then nothing is served.
        ours = [(b"cache-control", b"no-store")]
        if not _brought(given.get(b"cookie", b"")):
            secure = "; Secure" if headers.is_encrypted(scope) else ""
            # Lax, not Strict: coming back from a sign-in page elsewhere must find the same browser.
            line = f"{COOKIE}={secrets.token_urlsafe(32)}; Path={headers.base()}; HttpOnly; SameSite=Lax{secure}"
            ours.append((b"set-cookie", line.encode()))

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [each for each in message.get("headers", ()) if each[0].lower() != b"cache-control"]
                message = {**message, "headers": [*kept, *ours]}
            await send(message)

        await app(scope, receive, send_with)

    return with_cookie


def _brought(header: bytes) -> bool:
    pairs = (part.strip().partition("=") for part in header.decode("latin-1").split(";"))
    return any(name == COOKIE and _SECRET.fullmatch(value) for name, _, value in pairs)
