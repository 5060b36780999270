"""The ASGI app: the Streamlit screen and our routes on one port (`streamlit run dashboard/app.py`)."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# `streamlit run` puts this folder on sys.path, not the one above, where the packages of a bare checkout lie.
_ROOT = str(Path(__file__).resolve().parents[1])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

import streamlit as st  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402
from streamlit import config, runtime  # noqa: E402

from cmssd_core.config import settings  # noqa: E402
from dashboard import holdings, sign_in, state  # noqa: E402
from dashboard.routes import MIDDLEWARE, ROUTES  # noqa: E402
from dashboard.widgets import tell_fault  # noqa: E402


async def health(_request: Request) -> JSONResponse:
    """Says that the server answers, and its version; knows no case."""
    try:
        number = version("cmssd")
    except PackageNotFoundError:
        number = "not installed"
    return JSONResponse({"status": "ok", "version": number}, headers={"Cache-Control": "no-store"})


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
        sign_in.refuse_open_door(address, settings())
    sweeping = asyncio.create_task(_sweep())
    try:
        yield
    finally:
        sweeping.cancel()
        state.remove_folders()


app = st.App(
    Path(__file__).with_name("main.py").resolve(),
    routes=[Route("/health", health), *ROUTES],
    middleware=MIDDLEWARE,
    lifespan=lifespan,
    on_script_error=tell_fault,
)
