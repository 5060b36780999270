"""The one way in which a template becomes a page: escaped, strict about names, nothing fetched."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, *, made: datetime | None = None, **values: Any) -> str:
    """The page of a template in templates/, with the time it was made as `made`, default now."""
    environment = Environment(
        loader=PackageLoader("cmssd_core.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    stamp = (made or datetime.now()).strftime("%Y-%m-%d %H:%M")
    return environment.get_template(template).render(values, made=stamp)
