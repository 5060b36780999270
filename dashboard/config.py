"""Settings of the dashboard alone: where it serves, who may sign in, what it takes; filled from CMSSD_* variables."""

from __future__ import annotations

import ctypes
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cmssd_core.config import PREFIX, read_settings
from cmssd_core.types import InputError

#: Without these there is no sign-in; some of them without the others is a mistake.
SIGN_IN = ("oidc_metadata_url", "oidc_client_id", "oidc_client_secret", "public_url", "cookie_secret")


class DashboardSettings(BaseSettings):
    """What the dashboard may be told beside the core's settings; every field is read from CMSSD_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    upload_limit_mb: int = Field(default=2048, ge=1, description="largest upload the dashboard takes")
    reviews: SecretStr = Field(
        default=SecretStr(str(Path.home() / ".local" / "share" / "cmssd" / "reviews.sqlite")),
        description="where readers' reviews are kept: a SQLite file, or a postgresql:// address",
    )
    host: str = Field(default="127.0.0.1", description="address the dashboard binds; beyond this machine with sign-in")
    oidc_metadata_url: str | None = Field(default=None, pattern="^https?://", description="of the OIDC provider")
    oidc_client_id: str | None = Field(default=None, min_length=1, description="what the provider calls this program")
    oidc_client_secret: SecretStr | None = Field(default=None, min_length=1, description="given by the provider")
    public_url: str | None = Field(default=None, pattern="^https?://", description="address users type")
    cookie_secret: SecretStr | None = Field(default=None, min_length=32, description="signs the sign-in's cookie")
    role_claim: str = Field(default="roles", min_length=1, description="claim of the sign-in that says who may what")
    roles: tuple[tuple[str, Literal["summaries", "cases", "export"]], ...] = Field(
        default=(("summaries", "summaries"), ("cases", "cases"), ("export", "export")),
        description="value of the claim -> role, as a JSON object",
        examples=['{"tumour-board": "cases"}'],
    )
    sign_in_hours: float = Field(default=12.0, gt=0, description="after these one signs in again")
    signed_out: Path = Field(
        default=Path.home() / ".local" / "share" / "cmssd" / "signed_out",
        description="folder in which sign-outs are kept until the sign-in would have run out",
    )
    base_path: str = Field(default="", description="path under which a proxy serves the dashboard, e.g. /cmssd")
    server_names: tuple[str, ...] = Field(
        default=(),
        description="names that browsers may call this server by, beside this machine's own and CMSSD_PUBLIC_URL's",
        examples=['["cmssd.hospital.example"]'],
    )
    frame_ancestors: tuple[str, ...] = Field(
        default=(),
        description="portals that may show the dashboard in a frame",
        examples=['["https://portal.example"]'],
    )

    @property
    def sign_in(self) -> bool:
        """Whether users must sign in. Raises InputError where only a part of what sign-in needs is set."""
        given = [name for name in SIGN_IN if getattr(self, name) is not None]
        if given and len(given) < len(SIGN_IN):
            present, missing = (
                ", ".join(PREFIX + name.upper() for name in SIGN_IN if (name in given) is wanted)
                for wanted in (True, False)
            )
            raise InputError(f"sign-in came half set ({present}), expected {missing} too; set these, or unset all")
        return bool(given)

    @property
    def path(self) -> str:
        """The path the dashboard is served under, "" or "/cmssd"; what CMSSD_BASE_PATH says, or CMSSD_PUBLIC_URL."""
        public = urlsplit(self.public_url or "").path.rstrip("/")
        if self.base_path and self.public_url and public != self.base_path:
            raise InputError(
                f"CMSSD_BASE_PATH={self.base_path} and CMSSD_PUBLIC_URL={self.public_url} name two paths; expected the "
                "same, or CMSSD_PUBLIC_URL alone"
            )
        return self.base_path or public

    @field_validator("base_path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not re.fullmatch(r"(/?[A-Za-z0-9._~-]+)*/?", value) or ".." in value:
            raise ValueError("a path such as /cmssd, of letters, digits and - . _ ~")
        return "/" + value.strip("/") if value.strip("/") else ""

    @field_validator("frame_ancestors")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d+)?", each) for each in value):
            raise ValueError("origins such as https://portal.example, without a path")
        return value

    @field_validator("server_names")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[A-Za-z0-9.-]+", each) for each in value):
            raise ValueError("names such as cmssd.hospital.example, without scheme and port")
        return tuple(each.lower() for each in value)

    @field_validator("roles", mode="before")
    @classmethod
    def _pairs(cls, roles: Any) -> Any:
        return tuple(roles.items()) if isinstance(roles, dict) else roles


@lru_cache(maxsize=1)
def dashboard_settings() -> DashboardSettings:
    """The dashboard's settings of this process, read once. Raises InputError naming the variable that is unusable."""
    return read_settings(DashboardSettings)


def forget_secrets() -> None:
    """Takes what is secret out of this process's environment, once read: jobs inherit it, and it lies open in /proc."""
    dashboard_settings()
    names = {
        PREFIX + name.upper()
        for name, field in DashboardSettings.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }
    for name in [name for name in os.environ if name.upper() in names]:
        _blank(name)
        del os.environ[name]


def _blank(name: str) -> None:
    """Overwrites a variable's value where it lies: /proc/<pid>/environ shows the block the process started with."""
    find = ctypes.CDLL(None).getenv
    find.argtypes, find.restype = [ctypes.c_char_p], ctypes.c_void_p
    if (place := find(os.fsencode(name))) is not None:
        ctypes.memset(place, 0, len(os.fsencode(os.environ[name])))
