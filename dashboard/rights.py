"""Who may do what: one table of roles, asked by the page list, by pages and by routes.

Without sign-in the program serves this machine only and everything is allowed. With it, a user's role comes from a
claim of the identity provider (CMSSD_ROLE_CLAIM, CMSSD_ROLES); whoever has none may nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import streamlit as st
from starlette.requests import HTTPConnection
from streamlit.navigation.page import StreamlitPage

from cmssd_core.config import Settings, settings
from cmssd_core.types import InputError

Right = Literal["summaries", "cases", "export"]
User = Mapping[str, Any]

#: role -> what it may: see figures of a cohort; see single cases, their images and maps; take data away.
ROLES: Mapping[str, frozenset[Right]] = {
    "summaries": frozenset({"summaries"}),
    "cases": frozenset({"summaries", "cases"}),
    "export": frozenset({"summaries", "cases", "export"}),
}
#: page, by its title -> the right one needs to open it. A page that is not named here shows cases.
PAGES: Mapping[str, Right] = {
    "Overview": "summaries",
    "Analyse": "cases",
    "Case": "cases",
    "Cohort": "cases",
    "Performance": "summaries",
    "What-if": "cases",
    "Explain": "cases",
    "Review": "cases",
    "Models": "summaries",
}


def role(user: User | None, chosen: Settings) -> str | None:
    """The highest role that the claims of a signed-in user give; None = not signed in, too long ago, or no role."""
    if not user or user.get("is_logged_in") is not True:
        return None
    issued = user.get("iat")
    if not isinstance(issued, int | float) or time.time() - issued > chosen.sign_in_hours * 3600:
        return None
    if chosen.role_claim == "email" and user.get("email_verified") is not True:
        return None  # an address that anyone may claim gives nothing
    said = user.get(chosen.role_claim)
    values = {said} if isinstance(said, str) else set(said) if isinstance(said, list | tuple) else set()
    given = {name for value, name in chosen.roles if value in values}
    return next((name for name in reversed(ROLES) if name in given), None)


def may(user: User | None, right: Right) -> bool:
    """Whether a user, by the claims of the sign-in, may do this; everybody may where there is no sign-in."""
    chosen = settings()
    return not chosen.sign_in or right in ROLES.get(role(user, chosen) or "", ())


def session_may(right: Right) -> bool:
    """Whether the user of the session that runs now may do this."""
    return may(st.user.to_dict(), right)


def demand(right: Right) -> None:
    """Raises InputError where the user of the session that runs now may not do this."""
    if not session_may(right):
        raise InputError(f"your role does not include this ({right}); ask who runs this installation")


def request_may(request: HTTPConnection, right: Right) -> bool:
    """Whether the user whose sign-in cookie came with this request may do this: for routes."""
    return may(request_user(request), right)


def request_user(request: HTTPConnection) -> User | None:
    """The claims in the signed cookie of a request; None where there is none or it was not signed by us."""
    # Streamlit has no public door to its cookie outside a session; a test signs in for real and asks a route.
    from streamlit.auth_util import get_origin_from_redirect_uri
    from streamlit.web.server.starlette.starlette_websocket import (
        USER_COOKIE_NAME,
        _get_signed_cookie_with_chunks,
    )

    signed = _get_signed_cookie_with_chunks(dict(request.cookies), USER_COOKIE_NAME)
    if not signed:
        return None
    try:
        claims = json.loads(signed)
    except ValueError:
        return None
    ours = isinstance(claims, dict) and claims.get("origin") == get_origin_from_redirect_uri()
    return claims if ours else None


def navigation(pages: Sequence[StreamlitPage]) -> StreamlitPage:
    """The page to run: of those the session's user may open, or the one that says why there is none.

    Where there is none, every page's address leads to the one that asks to sign in, and no page is listed.
    """
    mine = [page for page in pages if session_may(PAGES.get(page.title, "cases"))]
    if mine:
        return st.navigation(mine)
    doors = [
        st.Page(_stop, title="Sign in", url_path=page.url_path or None, default=not page.url_path) for page in pages
    ]
    return st.navigation(doors, position="hidden")


def _stop() -> None:
    """Sign in, or: you are signed in and have no role."""
    signed_in = st.user.get("is_logged_in") is True
    late = signed_in and time.time() - float(st.user.get("iat") or 0) > settings().sign_in_hours * 3600
    st.title("CM-SSD")
    if late:
        st.info("Your sign-in has run out; sign in again.", icon=":material/lock_clock:")
    elif signed_in:
        st.info(
            "You are signed in, but no role was given to you. Ask who runs this installation for one of: "
            f"{', '.join(get_args(Right))}.",
            icon=":material/lock:",
        )
    else:
        st.markdown("This installation asks you to sign in.")
    if not signed_in or late:
        st.button("Sign in", type="primary", icon=":material/login:", on_click=st.login)
    if signed_in:
        st.button("Sign out", icon=":material/logout:", on_click=st.logout)
