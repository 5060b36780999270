"""The gate before every route: who may have what, from where; Streamlit's own routes included."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping

import pytest
from signed_in import SIGN_IN, user
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from dashboard import gate, headers, holdings, rights, signed_out
from dashboard.config import dashboard_settings
from dashboard.holdings import Holding
from dashboard.routes import MIDDLEWARE

MINE, THEIRS = "m" * 43, "t" * 43
NAME = "c0ffee" * 8
PICTURE, FILE = f"/media/{NAME}.png", f"/media/{NAME[::-1]}.zip"
PLACE = "/_stcore/upload_file/0b1c2d3e-new-session/4f5a6b7c-file"


async def answer(request: Request) -> Response:
    """Stands for Streamlit: serves whatever is asked for, with a cookie of thirty days."""
    told = {"Content-Disposition": "attachment; filename=x.zip"} if request.url.path.endswith(".zip") else {}
    response = Response(request.url.path, headers=told)
    response.set_cookie("_streamlit_user", "claims", max_age=30 * 24 * 3600)
    return response


async def stream(socket: WebSocket) -> None:
    """Says what it is told to, as a page that shows a picture and offers a file."""
    await socket.accept()
    await socket.send_bytes(b"\x0a\x12" + PICTURE.encode() + b"\x12" + FILE.encode() + b"\x00" + PLACE.encode())
    await socket.send_bytes(socket.headers.get("sec-websocket-protocol", "").encode())
    async for _ in socket.iter_bytes():
        await socket.send_bytes(b"answered")


APP = Starlette(
    routes=[WebSocketRoute("/_stcore/stream", stream), Route("/{path:path}", answer, methods=["GET", "PUT", "DELETE"])],
    middleware=MIDDLEWARE,
)


@pytest.fixture(autouse=True)
def afresh(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("CMSSD_SIGNED_OUT", str(tmp_path / "signed_out"))
    dashboard_settings.cache_clear()
    yield
    dashboard_settings.cache_clear()


@pytest.fixture
def with_sign_in(monkeypatch) -> None:
    for name, value in SIGN_IN.items():
        monkeypatch.setenv(name, value)
    dashboard_settings.cache_clear()


@pytest.fixture
def holding() -> Iterator[Holding]:
    made = Holding(session="my-session", browser=MINE)
    holdings._holdings[made.secret] = made
    yield made
    holdings._holdings.pop(made.secret, None)


def scope_of(kind: str, path: str, browser: str | None, server: str = "127.0.0.1", **told: str) -> dict:
    given = [(b"host", told.pop("host", "127.0.0.1:8501").encode())]
    given += [(name.replace("_", "-").encode(), value.encode()) for name, value in told.items() if name != "method"]
    if browser is not None:
        given.append((b"cookie", f"{holdings.COOKIE}={browser}".encode()))
    return {
        "type": kind, "method": told.get("method", "GET"), "path": path, "raw_path": path.encode(), "query_string": b"",
        "scheme": "http" if kind == "http" else "ws", "headers": given, "http_version": "1.1", "server": (server, 8501),
        "client": ("127.0.0.1", 1), "subprotocols": [],
    }  # fmt: skip


def fetch(path: str, *, browser: str | None = MINE, **told: str) -> tuple[int, Mapping[str, str], bytes]:
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": b""}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(APP(scope_of("http", path, browser, **told), receive, send))
    said = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], said, b"".join(part.get("body", b"") for part in sent[1:])


def connect(*, browser: str | None = MINE, then=lambda: None, asks: int = 0, **told: str) -> list[dict]:
    """What a page's web socket got; `then` is done while it is open, `asks` are messages sent after."""
    sent: list[dict] = []
    asked = 0

    async def receive() -> dict:
        nonlocal asked
        if not sent:
            return {"type": "websocket.connect"}
        if not asked:
            await asyncio.to_thread(then)
        asked += 1
        return (
            {"type": "websocket.receive", "bytes": b"x"}
            if asked <= asks
            else {"type": "websocket.disconnect", "code": 1000}
        )

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(APP(scope_of("websocket", "/_stcore/stream", browser, **told), receive, send))
    return sent


def test_what_was_told_to_one_browser_is_told_to_no_other() -> None:
    seen: dict[str | None, list[int]] = {}

    def ask() -> None:
        for browser in (MINE, THEIRS, None, ""):
            seen[browser] = [fetch(path, browser=browser)[0] for path in (PICTURE, FILE)]

    connect(then=ask)
    assert seen == {MINE: [200, 200], THEIRS: [404, 404], None: [404, 404], "": [404, 404]}
    assert fetch(PICTURE)[0] == 404, "the page is gone, and with it what it was told"
    connect(browser=None, then=ask)
    assert set(map(tuple, seen.values())) == {(404, 404)}, "a browser without cookie is told nothing"


def test_what_was_told_to_nobody_is_not_there() -> None:
    seen: list[int] = []
    paths = ["/media/other.png", f"/media/{NAME}/x", f"/media/{NAME}.png/", "/media/", f"/media/../media/{NAME}.png"]
    connect(then=lambda: seen.extend(fetch(path)[0] for path in paths))
    assert seen == [404] * len(paths)


def test_no_cache_keeps_what_was_told() -> None:
    told: dict[str, str] = {}
    connect(then=lambda: told.update(fetch(PICTURE)[1]))
    assert told["cache-control"] == "private, no-store"


@pytest.mark.parametrize("role", [None, "summaries", "cases", "export"])
def test_an_attachment_asks_for_the_right_to_take_data_away(role, monkeypatch) -> None:
    monkeypatch.setattr(rights, "request_may", lambda _request, right: right in rights.ROLES.get(role, ()))
    seen: list[int] = []
    connect(then=lambda: seen.extend(fetch(path)[0] for path in (PICTURE, FILE)))
    assert seen == {None: [404, 404], "summaries": [404, 404], "cases": [200, 404], "export": [200, 200]}[role]


def test_every_answer_carries_the_headers(monkeypatch) -> None:
    for path in ("/", "/case", "/health", PICTURE, "/held/x/y.nii", "/_stcore/host-config", "/viewers/none.js"):
        _, told, _ = fetch(path)
        assert "frame-ancestors 'none'" in told["content-security-policy"]
        assert told["x-frame-options"] == "DENY"
        assert told["x-content-type-options"] == "nosniff"
        assert told["referrer-policy"] == "no-referrer"
    monkeypatch.setenv("CMSSD_FRAME_ANCESTORS", '["https://portal.example", "https://other.example:8443"]')
    dashboard_settings.cache_clear()
    _, told, _ = fetch("/case")
    assert "frame-ancestors https://portal.example https://other.example:8443;" in told["content-security-policy"]
    assert "x-frame-options" not in told


@pytest.mark.usefixtures("with_sign_in")
def test_a_cookie_lives_no_longer_than_a_sign_in(monkeypatch) -> None:
    monkeypatch.setenv("CMSSD_SIGN_IN_HOURS", "2")
    dashboard_settings.cache_clear()
    _, told, _ = fetch("/oauth2callback", host="cmssd.example")
    assert re.search(r"Max-Age=(\d+)", told["set-cookie"]).group(1) == str(2 * 3600)
    assert told["set-cookie"].endswith("; Secure")  # the public address is https


def test_an_upload_goes_into_ones_own_session_alone(holding: Holding, monkeypatch) -> None:
    path = f"/_stcore/upload_file/{holding.session}/file"
    for method in ("PUT", "DELETE"):
        assert fetch(path, method=method)[0] == 200
        assert fetch(path, browser=THEIRS, method=method)[0] == 404
        assert fetch(path, browser=None, method=method)[0] == 404
        assert fetch("/_stcore/upload_file/other/file", method=method)[0] == 404
        assert fetch(f"{path}/more", method=method)[0] == 404
    monkeypatch.setattr(rights, "request_may", lambda _request, right: right == "summaries")
    assert fetch(path, method="PUT")[0] == 404


def test_an_upload_goes_where_the_page_was_told_though_nothing_is_drawn_yet() -> None:
    """As after a restart of the server, which the page survives."""
    seen: list[int] = []

    def ask() -> None:
        seen.extend(fetch(PLACE, browser=browser, method="PUT")[0] for browser in (MINE, THEIRS, None))
        seen.append(fetch(f"{PLACE}2", method="PUT")[0])

    connect(then=ask)
    assert seen == [200, 404, 404, 404]
    assert fetch(PLACE, method="PUT")[0] == 404


def test_a_script_gets_the_head_of_an_attachment_and_no_body() -> None:
    """Left unread, a large body would hold a connection of the few a browser has."""
    came: list[tuple[int, bytes]] = []

    def ask() -> None:
        for path, mode in ((FILE, "cors"), (FILE, "navigate"), (PICTURE, "cors")):
            status, _, body = fetch(path, sec_fetch_mode=mode)
            came.append((status, body))

    connect(then=ask)
    assert came == [(200, b""), (200, FILE.encode()), (200, PICTURE.encode())]


@pytest.mark.usefixtures("with_sign_in")
@pytest.mark.parametrize(("site", "status"), [("cross-site", 404), ("same-origin", 200), ("none", 200)])
def test_a_link_on_a_foreign_page_signs_nobody_out(site: str, status: int, monkeypatch) -> None:
    ended: list[object] = []
    monkeypatch.setattr(rights, "request_user", lambda _request: user("export"))
    monkeypatch.setattr(signed_out, "sign_out", ended.append)
    assert fetch("/auth/logout", host="cmssd.example", sec_fetch_site=site)[0] == status
    assert bool(ended) == (status == 200)


def test_a_session_is_resumed_by_its_own_browser_alone(holding: Holding) -> None:
    def named(browser: str | None, session: str) -> bytes:
        return connect(browser=browser, sec_websocket_protocol=f"streamlit, token, {session}")[2]["bytes"]

    assert named(MINE, holding.session).endswith(b", my-session")
    assert named(THEIRS, holding.session) == b"streamlit, token"
    assert named(None, holding.session) == b"streamlit, token"
    assert named(MINE, "unknown") == b"streamlit, token"


@pytest.mark.parametrize(
    ("told", "opens"),
    [
        ({}, True),  # no browser
        ({"origin": "http://127.0.0.1:8501"}, True),
        ({"origin": "http://127.0.0.1:9999"}, False),
        ({"origin": "http://localhost:8501"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://evil.example:8501", "host": "evil.example:8501"}, False),
    ],
)
def test_a_page_elsewhere_opens_no_web_socket(told, opens) -> None:
    sent = connect(**told)
    assert (sent[0]["type"] == "websocket.accept") == opens
    assert opens or sent == [{"type": "websocket.close", "code": 1008}]


def test_a_foreign_name_leads_nowhere(monkeypatch) -> None:
    ours = ("127.0.0.1:8501", "localhost", "localhost:1", "[::1]:8501", "app.localhost", "192.168.1.7")
    foreign = ("evil.example", "127.0.0.1.evil.example:8501", "localhost.evil.example", "[", "", "x@127.0.0.1.evil")
    assert {fetch("/case", host=host)[0] for host in ours} == {200}
    assert {fetch("/case", host=host)[0] for host in foreign} == {421}
    assert fetch("/health", host="probe")[0] == 200
    monkeypatch.setenv("CMSSD_SERVER_NAMES", '["CMSSD.hospital.example"]')
    dashboard_settings.cache_clear()
    assert fetch("/case", host="cmssd.hospital.example:443")[0] == 200


def test_without_sign_in_only_this_machine_is_answered(monkeypatch) -> None:
    assert fetch("/case", server="192.168.1.7")[0] == 421
    assert connect(server="192.168.1.7")[0]["type"] == "websocket.close"
    for name, value in SIGN_IN.items():
        monkeypatch.setenv(name, value)
    dashboard_settings.cache_clear()
    assert fetch("/case", server="192.168.1.7")[0] == 200


@pytest.mark.usefixtures("with_sign_in")
def test_an_open_page_falls_silent_when_its_sign_in_ends(monkeypatch) -> None:
    claims = user("registry")
    monkeypatch.setattr(rights, "request_user", lambda _request: claims)
    sent = connect(host="cmssd.example", asks=2)
    assert [message.get("bytes") for message in sent][3:5] == [b"answered"] * 2
    sent = connect(host="cmssd.example", asks=2, then=lambda: rights.signed_out.sign_out(claims))
    assert b"answered" not in [message.get("bytes") for message in sent]
    assert sent[-1] == {"type": "websocket.close", "code": 1008}


@pytest.mark.usefixtures("with_sign_in")
def test_figures_about_the_server_ask_for_a_sign_in(monkeypatch) -> None:
    assert fetch("/_stcore/metrics", host="cmssd.example")[0] == 404
    monkeypatch.setattr(rights, "request_user", lambda _request: user("students"))
    assert fetch("/_stcore/metrics", host="cmssd.example")[0] == 200


def test_under_a_path_the_same_is_asked(holding: Holding, monkeypatch) -> None:
    monkeypatch.setattr(headers, "base", lambda: "/cmssd")
    for path in ("/cmssd/health", "/health", "/cmssd"):
        assert fetch(path)[0] == 200
    assert fetch("/cmssd/health")[2] == b"/health", "our routes know no path in front"
    for path in (f"/cmssd{PICTURE}", "/cmssd/_stcore/agent/interact", "/cmssd/_stcore/upload_file/other/x", PICTURE):
        assert fetch(path)[0] == 404
    assert fetch(f"/cmssd/_stcore/upload_file/{holding.session}/x")[0] == 200


def test_every_route_is_known_or_shut() -> None:
    """A route that a new Streamlit brings is looked at here before anybody is answered."""
    from streamlit import config

    from dashboard.app import app

    asked = {"/media/", "/_stcore/upload_file/", "/_stcore/metrics", "/_stcore/stream"}
    shut = {"/_stcore/agent/"}
    knows_no_case = {*gate.OPEN, *gate.OURS, "/component/", "/auth/login", "/auth/logout", "/oauth2callback"}
    assert not config.get_option("server.enableStaticServing")
    paths = {getattr(route, "path", "") for route in app._build_starlette_app().routes}
    assert "/media/{file_id:path}" in paths
    starts = tuple(asked | shut | knows_no_case)
    assert {path for path in paths if not path.startswith(starts)} <= {"", "/{path:path}"}
    for start in shut:
        assert fetch(f"{start}x")[0] == 404
    assert fetch("/_stcore/new")[0] == 404
