"""Sign-in as Streamlit wants it told, from our settings; and no open door beyond this machine without it."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from cmssd_core.config import Settings
from cmssd_core.types import InputError


def refuse_open_door(host: str, chosen: Settings) -> None:
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
            "127.0.0.1, or set CMSSD_OIDC_METADATA_URL and what belongs to it (README, Settings)"
        )


@contextmanager
def streamlit_options(chosen: Settings) -> Iterator[dict[str, Any]]:
    """Streamlit's options for sign-in, {} where there is none; its secrets lie in a private file while it serves."""
    if not chosen.sign_in:
        yield {}
        return
    assert chosen.public_url is not None
    assert chosen.cookie_secret is not None
    assert chosen.oidc_client_secret is not None
    public = chosen.public_url.rstrip("/")
    told = {
        "redirect_uri": f"{public}/oauth2callback",
        "cookie_secret": chosen.cookie_secret.get_secret_value(),
        "client_id": chosen.oidc_client_id,
        "client_secret": chosen.oidc_client_secret.get_secret_value(),
        "server_metadata_url": chosen.oidc_metadata_url,
    }
    with TemporaryDirectory(prefix="cmssd-sign-in-") as folder:
        path = Path(folder) / "secrets.toml"
        path.touch(mode=0o600)
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in told.items()]
        path.write_text("\n".join(["[auth]", *lines]) + "\n", encoding="utf-8")
        yield {"secrets.files": [str(path)], "browser.serverAddress": urlsplit(public).hostname}


def _local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
