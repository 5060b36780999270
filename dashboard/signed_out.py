"""Sign-outs: a sign-in that was ended stays ended, whoever still has its cookie.

The sign-in lives in a signed cookie, so taking the cookie from one browser ends nothing for whoever copied it. Each
sign-out leaves an empty file named by the claims' hash, also for the next start of the server, until the sign-in would
have run out by itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from dashboard.config import dashboard_settings

_LOG = logging.getLogger("cmssd.dashboard")
#: What Streamlit adds to the provider's claims, differently for sessions and cookies.
_ADDED = ("origin", "is_logged_in", "tokens")
_names: set[str] = set()


def sign_out(user: Mapping[str, Any]) -> None:
    """Ends the sign-in with these claims for good."""
    chosen = dashboard_settings()
    _names.add(_name(user))
    try:
        chosen.signed_out.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in chosen.signed_out.iterdir():
            if time.time() - each.stat().st_mtime > chosen.sign_in_hours * 3600 + 600:
                each.unlink(missing_ok=True)
        (chosen.signed_out / _name(user)).touch()
    except OSError as fault:
        _LOG.warning("a sign-out holds until this server stops only: CMSSD_SIGNED_OUT: %s", fault.strerror)


def is_signed_out(user: Mapping[str, Any]) -> bool:
    """Whether the sign-in with these claims was ended."""
    name = _name(user)
    return name in _names or (dashboard_settings().signed_out / name).exists()


def _name(user: Mapping[str, Any]) -> str:
    claims = {name: value for name, value in user.items() if name not in _ADDED}
    return hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).hexdigest()
