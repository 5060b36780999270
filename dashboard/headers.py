"""What every answer says to the browser beside its content: no frames, no guessing, no referrer, cookies that end."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config

from dashboard.config import dashboard_settings

#: What belongs to a patient is kept by no cache, the browser's own included.
PRIVATE = {"Cache-Control": "private, no-store"}
_MAX_AGE = re.compile(rb"; *max-age=(\d+)", re.IGNORECASE)


def security() -> dict[str, str]:
    """The headers that each answer carries."""
    portals = dashboard_settings().frame_ancestors
    framed = {} if portals else {"X-Frame-Options": "DENY"}  # which knows no list
    return framed | {
        "Content-Security-Policy": f"frame-ancestors {' '.join(portals) or chr(39) + 'none' + chr(39)}; "
        "base-uri 'self'; object-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def guard(app: ASGIApp) -> ASGIApp:
    """Puts the headers on every answer, and the sign-in's end on every cookie."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = {name.lower().encode(): value.encode() for name, value in security().items()}
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in ours]
                kept = [(n, _shorten(v, scope) if n.lower() == b"set-cookie" else v) for n, v in kept]
                message = {**message, "headers": [*kept, *ours.items()]}
            await send(message)

        await app(scope, receive, send_with)

    return guarded


def base() -> str:
    """The path that a proxy puts in front, "/" or "/cmssd", as Streamlit was told it."""
    return "/" + str(config.get_option("server.baseUrlPath") or "").strip("/")


def is_encrypted(scope: Scope) -> bool:
    """Whether the browser speaks https, to us or to a proxy before us."""
    return scope.get("scheme") == "https" or (dashboard_settings().public_url or "").startswith("https://")


def _shorten(cookie: bytes, scope: Scope) -> bytes:
    """A cookie that lives no longer than a sign-in (Streamlit's would live for 30 days), and Secure where it can be."""
    most = int(dashboard_settings().sign_in_hours * 3600)
    cookie = _MAX_AGE.sub(lambda found: b"; Max-Age=%d" % min(int(found[1]), most), cookie)
    return cookie + b"; Secure" if is_encrypted(scope) and b"; secure" not in cookie.lower() else cookie
