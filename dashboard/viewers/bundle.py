"""The viewers' JavaScript: where it lies once built, and what to say where it was not."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from dashboard.viewers import build

FOLDER = Path(__file__).with_name("static")
NAMES = ("mri", "slide")
UNBUILT = (
    "The interactive viewers of this checkout are not built yet, so plain pictures stand in for them: run "
    "`python -m dashboard.viewers.build` once (or `make install`) and reload this page."
)


def path(name: str) -> Path | None:
    """The script of a viewer; None where there is no such viewer or it is not built."""
    present = FOLDER / f"{name}.js"
    return present if name in NAMES and present.is_file() else None


def ready() -> bool:
    """Whether both viewers are built, from the sources that lie here."""
    return build.fresh()


def loader(name: str) -> str:
    """The few lines of JavaScript that a component is registered with: they fetch the script by its content's name."""
    present = path(name)
    assert present is not None, f"{name} is not built"
    return _LOADER.replace("ADDRESS", f"viewers/{name}.js?v={_version(present, present.stat().st_mtime_ns)}")


@lru_cache(maxsize=8)
def _version(present: Path, _mtime_ns: int) -> str:
    return hashlib.sha256(present.read_bytes()).hexdigest()[:16]


_LOADER = """export default async function (component) {
  // The page's own script tells where the program is served: a proxy may have put a path in front.
  const page = document.querySelector('script[type="module"][src*="static/js/"]');
  const viewer = await import(new URL("../../ADDRESS", page.src).href);
  return viewer.default(component);
}
"""
