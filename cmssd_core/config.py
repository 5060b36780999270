"""Settings of the core: one object, filled from CMSSD_* environment variables."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from cmssd_core.types import InputError

PREFIX = "CMSSD_"
Chosen = TypeVar("Chosen", bound=BaseSettings)


class Settings(BaseSettings):
    """What the core may be told; every field is read from CMSSD_<FIELD>, e.g. CMSSD_CACHE_DIR.

    A field that is written as JSON has an example of it. What the dashboard alone reads stands in dashboard/config.py.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    cache_dir: Path = Field(default=Path.home() / ".cache" / "cmssd", description="results by content key")
    cache_limit_gb: float = Field(default=5.0, gt=0, description="oldest results beyond this are removed")
    weights: Path | None = Field(default=None, description="weights file; None = the shipped compact weights")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1, description="CPU threads for torch; None = torch's own choice")
    n4: bool = Field(default=True, description="correct the MRI's bias field")
    stain_backend: Literal["native", "staintools"] = "native"
    max_patches: int = Field(default=64, ge=1, description="patches taken from one slide")
    unpacked_limit_mb: int = Field(default=4096, ge=1, description="largest archive after unpacking")
    reading_memory_mb: int = Field(default=4096, ge=512, description="memory that reading one upload may take")
    reading_seconds: float = Field(default=120.0, gt=0, description="time that reading one upload may take")
    debug: bool = Field(default=False, description="show the traceback of a fault of the program")
    severity_tiers: tuple[tuple[str, float], ...] = Field(
        default=(("low", 0.0), ("moderate", 25.0), ("high", 50.0)),
        description="name and lower bound in percent; unvalidated, shown as such",
        examples=['[["low", 0], ["high", 50]]'],
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
    return read_settings(Settings)


def read_settings(kind: type[Chosen]) -> Chosen:
    """Settings of a kind, from the environment. Raises InputError naming the variable that cannot be used."""
    try:
        return kind()
    except ValidationError as problem:
        first = problem.errors()[0]
        wanted = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if first["type"] == "string_pattern_mismatch":  # only addresses have a pattern
            wanted = "an address that begins with https:// or http://"
        elif first["type"] in ("too_short", "string_too_short"):
            wanted = f"{first['ctx']['min_length']} characters or more"
        raise _mistake(kind, str(first["loc"][0]), wanted) from None
    except SettingsError as problem:
        # Only a field that is written as JSON fails before it is checked.
        as_json = {name: field.examples[0] for name, field in kind.model_fields.items() if field.examples}
        name = next(name for name in re.findall('"([a-z_]+)"', str(problem)) if name in as_json)
        raise _mistake(kind, name, f"JSON such as {as_json[name]}") from None


def _mistake(kind: type[BaseSettings], field: str, wanted: str) -> InputError:
    variable, annotation = PREFIX + field.upper(), kind.model_fields[field].annotation
    came = next((value for name, value in os.environ.items() if name.upper() == variable), "")
    came = "***" if SecretStr in (annotation, *get_args(annotation)) else came
    return InputError(f"{variable}={came} came, expected {wanted}; mend or unset the variable {variable}")
