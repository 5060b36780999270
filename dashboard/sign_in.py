"""Sign-in as Streamlit wants it told, from our settings; and no open door beyond this machine without it."""

from __future__ import annotations

import ipaddress
from importlib.util import find_spec
from typing import Any

from cmssd_core.types import InputError
from dashboard.config import DashboardSettings


def refuse_open_door(host: str, chosen: DashboardSettings) -> None:
    """Raises InputError where others than this machine's users could come in without sign-in, or sign-in cannot work.

    host: the address that is bound, a name or a number.
    """
    if chosen.sign_in and (find_spec("authlib") is None or find_spec("httpx") is None):
        raise InputError(
            "sign-in is set and needs Authlib and httpx; pip install 'cmssd[signin]', or unset CMSSD_OIDC_*"
        )
    if not chosen.sign_in and not _local(host):
        raise InputError(
            f"the address {host} lets others in and there is no sign-in; leave CMSSD_HOST at "
            "127.0.0.1, or set CMSSD_OIDC_METADATA_URL and what belongs to it (docs/settings.md)"
        )


def streamlit_secrets(chosen: DashboardSettings) -> dict[str, Any] | None:
    """What Streamlit must know to sign in, in its memory alone; None where there is no sign-in."""
    if not chosen.sign_in:
        return None
    assert chosen.public_url is not None
    assert chosen.cookie_secret is not None
    assert chosen.oidc_client_secret is not None
    return {
        "auth": {
            "redirect_uri": f"{chosen.public_url.rstrip('/')}/oauth2callback",
            "cookie_secret": chosen.cookie_secret.get_secret_value(),
            "client_id": chosen.oidc_client_id,
            "client_secret": chosen.oidc_client_secret.get_secret_value(),
            "server_metadata_url": chosen.oidc_metadata_url,
        }
    }


def _local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
