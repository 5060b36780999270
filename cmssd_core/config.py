"""Settings of the whole program: one object, filled from CMSSD_* environment variables."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from cmssd_core.types import InputError

PREFIX = "CMSSD_"
#: Fields written as JSON, with an example each.
AS_JSON = {"severity_tiers": '[["low", 0], ["high", 50]]', "roles": '{"tumour-board": "cases"}'}
#: Without these there is no sign-in; some of them without the others is a mistake.
SIGN_IN = ("oidc_metadata_url", "oidc_client_id", "oidc_client_secret", "public_url", "cookie_secret")


class Settings(BaseSettings):
    """What an installation may set; every field is read from CMSSD_<FIELD>, e.g. CMSSD_CACHE_DIR."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    cache_dir: Path = Field(default=Path.home() / ".cache" / "cmssd", description="results by content key")
    cache_limit_gb: float = Field(default=5.0, gt=0, description="oldest results beyond this are removed")
    weights: Path | None = Field(default=None, description="weights file; None = the shipped compact weights")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1, description="CPU threads for torch; None = torch's own choice")
    n4: bool = Field(default=True, description="correct the MRI's bias field")
    stain_backend: Literal["native", "staintools"] = "native"
    max_patches: int = Field(default=64, ge=1, description="patches taken from one slide")
    upload_limit_mb: int = Field(default=2048, ge=1, description="largest upload the dashboard takes")
    unpacked_limit_mb: int = Field(default=4096, ge=1, description="largest archive after unpacking")
    debug: bool = Field(default=False, description="show the traceback of a fault of the program")
    reviews: SecretStr = Field(
        default=SecretStr(str(Path.home() / ".local" / "share" / "cmssd" / "reviews.sqlite")),
        description="where readers' reviews are kept: a SQLite file, or a postgresql:// address",
    )
    severity_tiers: tuple[tuple[str, float], ...] = Field(
        default=(("low", 0.0), ("moderate", 25.0), ("high", 50.0)),
        description="name and lower bound in percent; unvalidated, shown as such",
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
    )
    sign_in_hours: float = Field(default=12.0, gt=0, description="after these one signs in again")

    @property
    def sign_in(self) -> bool:
        """Whether users must sign in. Raises InputError where only a part of what sign-in needs is set."""
        given = [name for name in SIGN_IN if getattr(self, name) is not None]
        if given and len(given) < len(SIGN_IN):
            there, missing = (
                ", ".join(PREFIX + name.upper() for name in SIGN_IN if (name in given) is wanted)
                for wanted in (True, False)
            )
            raise InputError(f"sign-in came half set ({there}), expected {missing} too; set these, or unset all")
        return bool(given)

    @field_validator("roles", mode="before")
    @classmethod
    def _pairs(cls, roles: Any) -> Any:
        return tuple(roles.items()) if isinstance(roles, dict) else roles

    @field_validator("severity_tiers")
    @classmethod
    def _ascending(cls, tiers: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
        names, bounds = [name for name, _ in tiers], [bound for _, bound in tiers]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("a name of its own for each tier")
        if not all(0 <= bound <= 100 for bound in bounds) or bounds != sorted(set(bounds)):
            raise ValueError("lower bounds that ascend, from 0 to 100 percent")
        return tiers


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once. Raises InputError naming the variable that cannot be used."""
    try:
        return Settings()
    except ValidationError as problem:
        first = problem.errors()[0]
        wanted = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if first["type"] == "string_pattern_mismatch":  # only addresses have a pattern
            wanted = "an address that begins with https:// or http://"
        elif first["type"] in ("too_short", "string_too_short"):
            wanted = f"{first['ctx']['min_length']} characters or more"
        raise _mistake(str(first["loc"][0]), wanted) from None
    except SettingsError as problem:
        # Only a field that is written as JSON fails before it is checked.
        field = next(name for name in re.findall('"([a-z_]+)"', str(problem)) if name in AS_JSON)
        raise _mistake(field, f"JSON such as {AS_JSON[field]}") from None


def _mistake(field: str, wanted: str) -> InputError:
    variable = PREFIX + field.upper()
    came = next((value for name, value in os.environ.items() if name.upper() == variable), "")
    came = "***" if field.endswith("_secret") else came
    return InputError(f"{variable}={came} came, expected {wanted}; mend or unset the variable {variable}")
