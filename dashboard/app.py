"""The ASGI app: the Streamlit screen and our routes on one port (`streamlit run dashboard/app.py`)."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# `streamlit run` puts this folder on sys.path, not the one above, where the packages of a bare checkout lie.
_ROOT = str(Path(__file__).resolve().parents[1])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

import streamlit as st  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402
from streamlit import config, runtime  # noqa: E402

from dashboard import headers, holdings, sign_in, state  # noqa: E402
from dashboard.config import dashboard_settings, forget_secrets  # noqa: E402
from dashboard.routes import MIDDLEWARE, ROUTES  # noqa: E402
from dashboard.widgets import tell_fault  # noqa: E402

#: Streamlit's options that let others in, whatever a config.toml on this machine says: no page elsewhere may steer ours
#: or read from it, no upload goes without its token, nobody is signed in by a header, and no program drives the pages.
SHUT: Mapping[str, Any] = {
    "client.allowedOrigins": [],
    "server.enableCORS": True,
    "server.corsAllowedOrigins": [],
    "server.enableXsrfProtection": True,
    "server.trustedUserHeaders": {},
    "server.enableAgentApi": False,
}


async def health(_request: Request) -> JSONResponse:
    """Says that the server answers, and its version; knows no case."""
    try:
        number = version("cmssd")
    except PackageNotFoundError:
        number = "not installed"
    return JSONResponse({"status": "ok", "version": number}, headers={"Cache-Control": "no-store"})


async def fault(_request: Request, _fault: Exception) -> Response:
    """Our own fault in a route; the server's log has its traceback, the browser the same headers as ever."""
    return Response("something went wrong in the program\n", 500, headers.security() | headers.PRIVATE, "text/plain")


async def _sweep() -> None:
    while True:
        await asyncio.sleep(30)
        for swept in (state.sweep, holdings.sweep):
            swept(connected=runtime.get_instance().is_active_session, now_s=time.monotonic())


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    """Leaves no patient's files behind: a server that is told to stop by a signal runs no exit handlers."""
    address = config.get_option("server.address")
    if address:  # dashboard/launch.py asks before it starts; `streamlit run` may name another address
        sign_in.refuse_open_door(address, dashboard_settings())
    for name, value in SHUT.items():
        config.set_option(name, value)
    forget_secrets()
    sweeping = asyncio.create_task(_sweep())
    try:
        yield
    finally:
        sweeping.cancel()
        state.remove_folders()


app = st.App(
    Path(__file__).with_name("main.py").resolve(),
    secrets=sign_in.streamlit_secrets(dashboard_settings()),
    routes=[Route("/health", health), *ROUTES],
    middleware=MIDDLEWARE,
    lifespan=lifespan,
    on_script_error=tell_fault,
    exception_handlers={Exception: fault},
)
