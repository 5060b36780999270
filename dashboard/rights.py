"""Who may do what: one table of roles, asked by the page list, by pages and by routes.

Without sign-in the program serves this machine only and everything is allowed. With it, a user's role comes from a
claim of the identity provider (CMSSD_ROLE_CLAIM, CMSSD_ROLES); whoever has none may nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import streamlit as st
from starlette.requests import HTTPConnection
from streamlit.navigation.page import StreamlitPage

from cmssd_core.types import InputError
from dashboard import signed_out
from dashboard.config import DashboardSettings, dashboard_settings

Right = Literal["summaries", "cases", "export"]
User = Mapping[str, Any]

#: role -> what it may: see figures of a cohort; see single cases, their images and maps; take data away.
ROLES: Mapping[str, frozenset[Right]] = {
    "summaries": frozenset({"summaries"}),
    "cases": frozenset({"summaries", "cases"}),
    "export": frozenset({"summaries", "cases", "export"}),
}


@dataclass(frozen=True)
class Page:
    """One page: its file in pages/, its icon (Material), and the right one needs to open it."""

    file: str
    icon: str
    right: Right


#: THE table of pages, by title, in the order of the navigation; the first is where one arrives.
PAGES: dict[str, Page] = {
    "Overview": Page("overview.py", "home", "summaries"),
    "Analyse": Page("analyse.py", "radiology", "cases"),
    "Case": Page("case.py", "clinical_notes", "cases"),
    "Cohort": Page("cohort.py", "groups", "cases"),
    "Performance": Page("performance.py", "insights", "summaries"),
    "What-if": Page("what_if.py", "experiment", "cases"),
    "Explain": Page("explain.py", "center_focus_strong", "cases"),
    "Review": Page("review.py", "rate_review", "cases"),
    "Models": Page("models.py", "neurology", "summaries"),
}


#: How far the identity provider's clock may be ahead of ours.
_AHEAD_S = 120.0


def role(user: User | None, chosen: DashboardSettings) -> str | None:
    """The highest role that the claims of a signed-in user give; None = not signed in, no longer, or no role."""
    if not user or user.get("is_logged_in") is not True or not _is_fresh(user, chosen):
        return None
    if chosen.role_claim == "email" and user.get("email_verified") is not True:
        return None  # an address that anyone may claim gives nothing
    words = user.get(chosen.role_claim)
    values = {words} if isinstance(words, str) else set(words) if isinstance(words, list | tuple) else set()
    given = {name for value, name in chosen.roles if value in values}
    return next((name for name in reversed(ROLES) if name in given), None)


def _is_fresh(user: User, chosen: DashboardSettings) -> bool:
    """Whether the sign-in is neither too old, nor from the future, nor ended by a sign-out."""
    issued = user.get("iat")
    if not isinstance(issued, int | float) or isinstance(issued, bool):
        return False
    # So that NaN is not fresh either.
    return -_AHEAD_S <= time.time() - issued <= chosen.sign_in_hours * 3600 and not signed_out.is_signed_out(user)


def may(user: User | None, right: Right) -> bool:
    """Whether a user, by the claims of the sign-in, may do this; everybody may where there is no sign-in."""
    chosen = dashboard_settings()
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


def navigation(folder: Path) -> StreamlitPage:
    """The page to run: of those in `folder` that the session's user may open, or the one that says why there is none.

    Where there is none, every page's address leads to the one that asks to sign in, and no page is listed.
    """
    pages = [
        st.Page(folder / page.file, title=title, icon=f":material/{page.icon}:", default=title == next(iter(PAGES)))
        for title, page in PAGES.items()
    ]
    mine = [page for page in pages if session_may(PAGES[page.title].right)]
    if mine:
        return st.navigation(mine)
    doors = [
        st.Page(_stop, title="Sign in", url_path=page.url_path or None, default=not page.url_path) for page in pages
    ]
    return st.navigation(doors, position="hidden")


def sign_out_button() -> None:
    """Ends the sign-in of the session's user, here and for whoever has a copy of its cookie."""
    st.button("Sign out", icon=":material/logout:", on_click=_sign_out)


def _sign_out() -> None:
    signed_out.sign_out(st.user.to_dict())
    st.logout()


def _stop() -> None:
    """Sign in, or: you are signed in and have no role."""
    user = st.user.to_dict()
    signed_in = user.get("is_logged_in") is True
    late = signed_in and not _is_fresh(user, dashboard_settings())
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
        sign_out_button()
