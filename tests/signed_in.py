"""A person who is signed in, for tests of rights."""

from __future__ import annotations

import json
import time

import oidc_provider

SIGN_IN = {
    "CMSSD_OIDC_METADATA_URL": "https://provider.example/.well-known/openid-configuration",
    "CMSSD_OIDC_CLIENT_ID": oidc_provider.CLIENT,
    "CMSSD_OIDC_CLIENT_SECRET": oidc_provider.SECRET,
    "CMSSD_PUBLIC_URL": "https://cmssd.example",
    "CMSSD_COOKIE_SECRET": "0123456789abcdef" * 2,
    "CMSSD_ROLE_CLAIM": "groups",
    "CMSSD_ROLES": json.dumps({"students": "summaries", "tumour board": "cases", "registry": "export"}),
}


def user(*groups: str, **claims: object) -> dict[str, object]:
    return {"is_logged_in": True, "iat": time.time(), "groups": list(groups), **claims}
