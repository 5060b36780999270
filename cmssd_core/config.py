"""Settings of the whole program: one object, filled from CMSSD_* environment variables."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from cmssd_core.types import InputError

PREFIX = "CMSSD_"


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
    severity_tiers: tuple[tuple[str, float], ...] = Field(
        default=(("low", 0.0), ("moderate", 25.0), ("high", 50.0)),
        description="name and lower bound in percent; unvalidated, shown as such",
    )

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
        raise _mistake(str(first["loc"][0]), wanted) from None
    except SettingsError:
        # Only a field that is written as JSON fails before it is checked, and this is the only one.
        raise _mistake("severity_tiers", 'JSON such as [["low", 0], ["high", 50]]') from None


def _mistake(field: str, wanted: str) -> InputError:
    variable = PREFIX + field.upper()
    came = next((value for name, value in os.environ.items() if name.upper() == variable), "")
    return InputError(f"{variable}={came} came, expected {wanted}; mend or unset the variable {variable}")
