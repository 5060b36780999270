"""What stands before every route, Streamlit's own included: from where one asks, and whether this browser may have it.

Streamlit hands out what it keeps to whoever knows an address: /media/<hash> for pictures and downloads, an upload to
any session's number. Here every such request must come from the browser that the thing was told to, known by its
cookie (holdings.py), whose user may see cases, and for a file to take away, may take data away. What a page of
tomorrow shows by st.image or offers by st.download_button is asked for in the same way; a route that Streamlit adds is
shut until OPEN names it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard import headers, holdings, rights, signed_out
from dashboard.config import dashboard_settings

#: Our own routes, which answer with and without the path that a proxy puts in front.
OURS = ("/held/", "/viewers/", "/health")
#: Of Streamlit's routes below /_stcore/, those that know no case: they answer anybody.
OPEN = ("/_stcore/health", "/_stcore/host-config", "/_stcore/bidi-components/")
_HEALTH = ("/health", "/_stcore/health")  # a probe calls the server by any name
#: What a page is told: media by their name, and the place of an upload into its session.
_TELLING = re.compile(rb"/media/([0-9A-Za-z_-]+)|/_stcore/upload_file/([0-9A-Za-z-]+/[0-9A-Za-z-]+)")
_FETCHED = re.compile(r"/media/([0-9A-Za-z_-]+)(?:\.\w+)?|/_stcore/upload_file/([0-9A-Za-z-]+/[0-9A-Za-z-]+)")

#: Of each open page: its browser's cookie, and what it was told.
_told: dict[int, tuple[str, set[str]]] = {}


def gate(app: ASGIApp) -> ASGIApp:
    """Passes on what may be asked for, and answers the rest as if it were not there."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _fetch(app, scope, receive, send)
        elif scope["type"] == "websocket":
            await _stream(app, scope, receive, send)
        else:
            await app(scope, receive, send)

    return asked


async def _fetch(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    path, request = _below_base(scope["path"]), HTTPConnection(scope)
    if path not in _HEALTH and not _is_ours(request):
        words = "This server is not known by this name; name it in CMSSD_SERVER_NAMES (docs/settings.md).\n"
        await Response(words, 421, media_type="text/plain")(scope, receive, send)
        return
    if not _may_fetch(path, request):
        await Response("not found", 404, headers.PRIVATE)(scope, receive, send)
        return
    if path == "/auth/logout":
        if request.headers.get("sec-fetch-site") == "cross-site":  # a link on a foreign page
            await Response("not found", 404, headers.PRIVATE)(scope, receive, send)
            return
        if (user := rights.request_user(request)) is not None:
            signed_out.sign_out(user)
    if path.startswith(OURS):
        scope = {**scope, "path": path, "raw_path": path.encode()}
    if path.startswith("/media/"):
        send = _privately(request, receive, send)
    await app(scope, receive, send)


def _may_fetch(path: str, request: HTTPConnection) -> bool:
    browser = request.cookies.get(holdings.COOKIE)
    if path.startswith(("/media/", "/_stcore/upload_file/")):
        found = _FETCHED.fullmatch(path)
        name = (found[1] or found[2]) if found else None
        told = name is not None and any(who == browser and name in names for who, names in _told.values())
        # A file of an earlier web socket may be taken back, too.
        own = found is not None and bool(found[2]) and holdings.is_owner(name.partition("/")[0], browser)
        return (told or own) and rights.request_may(request, "cases")
    if path.startswith("/_stcore/metrics"):
        return rights.request_may(request, "summaries")
    return not path.startswith("/_stcore/") or path.startswith(OPEN)


def _privately(request: HTTPConnection, receive: Receive, send: Send) -> Send:
    """Sends an answer that no cache keeps; an attachment to those alone who may take data away.

    Before each button Streamlit asks by a script whether its file is there, and leaves the answer unread: of a large
    one that holds a connection of the few a browser has. A script therefore gets an attachment's head alone.
    """
    may_keep, by_script = rights.request_may(request, "export"), request.headers.get("sec-fetch-mode") == "cors"
    answered = False

    async def send_privately(message: Message) -> None:
        nonlocal answered
        if message["type"] == "http.response.start":
            given = dict(message["headers"])
            if given.get(b"content-disposition", b"").startswith(b"attachment") and (by_script or not may_keep):
                answered = True
                status, words = (message["status"], "") if may_keep else (404, "not found")
                await Response(words, status, headers.PRIVATE)(request.scope, receive, send)
                return
            ours = [(name.lower().encode(), value.encode()) for name, value in headers.PRIVATE.items()]
            message = {**message, "headers": [*message["headers"], *ours]}
        if not answered:
            await send(message)

    return send_privately


async def _stream(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """The page's own web socket: of this site only, for a session of this browser, and while its sign-in lasts."""
    request = HTTPConnection(scope)
    if not _is_ours(request) or not _is_same_site(request):
        await send({"type": "websocket.close", "code": 1008})
        return
    browser = request.cookies.get(holdings.COOKIE)
    user = rights.request_user(request) if dashboard_settings().sign_in else None
    signed_in = rights.may(user, "summaries")
    names: set[str] = set()

    async def receive_asked() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive" and signed_in and not rights.may(user, "summaries"):
            await send({"type": "websocket.close", "code": 1008})
            return {"type": "websocket.disconnect", "code": 1008}
        return message

    async def send_noted(message: Message) -> None:
        content = message.get("bytes") or b""
        names.update(name.decode() for found in _TELLING.findall(content) for name in found if name)
        await send(message)

    if browser:
        _told[id(names)] = (browser, names)
    try:
        await app(_without_foreign_session(scope, browser), receive_asked, send_noted)
    finally:
        _told.pop(id(names), None)


def _without_foreign_session(scope: Scope, browser: str | None) -> Scope:
    """Streamlit resumes whatever session a browser names in the third subprotocol; here, only its own."""

    def checked(value: bytes) -> bytes:
        entries = [entry.strip() for entry in value.decode("latin-1").split(",")]
        kept = entries if len(entries) < 3 or holdings.is_owner(entries[2], browser) else entries[:2]
        return ", ".join(kept).encode("latin-1")

    given = [(n, checked(v) if n.lower() == b"sec-websocket-protocol" else v) for n, v in scope["headers"]]
    return {**scope, "headers": given}


def _below_base(path: str) -> str:
    base = headers.base().rstrip("/")
    return path.removeprefix(base) if path.startswith(f"{base}/") else path


def _is_ours(request: HTTPConnection) -> bool:
    """Whether the browser calls us by a name of ours: a foreign site's name may be made to lead here (DNS rebinding).

    Without sign-in, moreover, only what reaches us on this machine itself is answered, whatever address was bound.
    """
    chosen, here = dashboard_settings(), request.scope.get("server")
    if not chosen.sign_in and here and here[1] is not None and not _matches(here[0], _is_loopback):
        return False
    if "host" not in request.headers:  # no browser
        return True
    try:
        name = urlsplit(f"//{request.headers['host']}").hostname or ""
    except ValueError:
        return False
    known = {chosen.host, urlsplit(chosen.public_url or "").hostname, *chosen.server_names, "localhost"}
    return name in known or name.endswith(".localhost") or _matches(name, lambda _: True)


def _is_same_site(request: HTTPConnection) -> bool:
    """Whether a web socket is opened by our own page; Streamlit alone would let in any page of this machine."""
    origin, public = request.headers.get("origin"), urlsplit(dashboard_settings().public_url or "").netloc
    ours = {request.headers.get("host"), public} - {""}
    return origin is None or origin.partition("://")[2] in ours


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_loopback


def _matches(name: str, holds: Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address], bool]) -> bool:
    """Whether a name is a number that fulfils a condition; a number leads nowhere else."""
    try:
        return holds(ipaddress.ip_address(name))
    except ValueError:
        return False
