"""A real PostgreSQL server for tests, started by them in a folder of its own and stopped after; Debian's postgresql."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

USER = "postgres"  # the server refuses to run as root; Debian's package makes this user


def _programs() -> Path:
    found = [Path(p).parent for p in [shutil.which("pg_ctl")] if p] + sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("no PostgreSQL server here: install Debian's postgresql to run these tests")
    return found[-1]


class Server:
    """A server's data folder and port."""

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self.programs, self.folder, self.port = programs, folder, port
        self.url = f"postgresql://reviewer@127.0.0.1:{port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        if os.geteuid() == 0:
            # A short PATH, as a service has, leaves out the folders of the administrator's programs.
            command = [which("runuser") or "/usr/sbin/runuser", "-u", USER, "--", *command]
        # Not captured: the server keeps the pipe open, and reading it would never end.
        with (self.folder.parent / "commands.log").open("a", encoding="utf-8") as log:
            done = subprocess.run(command, cwd="/", stdout=log, stderr=log, timeout=90)
        assert done.returncode == 0, (self.folder.parent / "commands.log").read_text(encoding="utf-8")

    def start(self) -> None:
        # Without fsync: these tests end processes, never the machine, and what a process wrote outlives it.
        told = f"-p {self.port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run(
            "pg_ctl", "-D", str(self.folder), "-w", "-l", str(self.folder.parent / "server.log"), "-o", told, "start"
        )

    def stop(self, mode: str) -> None:
        """Mode "immediate" is a crash: no server process ends in order, the next start recovers from the log."""
        self.run("pg_ctl", "-D", str(self.folder), "-m", mode, "stop")


@contextmanager
def server() -> Iterator[Server]:
    """A running server; skips, saying why, where PostgreSQL is not installed."""
    programs = _programs()
    above = Path(tempfile.mkdtemp(prefix="cmssd-postgres-"))  # not below pytest's folder, which its user cannot enter
    above.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(above, USER, USER)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    made = Server(programs, above / "data", port)
    try:
        made.run("initdb", "-D", str(made.folder), "-U", "reviewer", "--auth=trust", "-E", "UTF8", "--no-locale", "-N")
        made.start()
        yield made
        made.stop("immediate")
    finally:
        shutil.rmtree(above, ignore_errors=True)
