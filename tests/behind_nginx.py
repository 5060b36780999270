"""nginx in front of a dashboard, as docs/security.md says: a path before ours, the web socket passed on."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import pytest
from places import ROOT
from served import free_port

from dashboard.config import DashboardSettings

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@contextmanager
def behind_nginx(folder: Path, address: str, path: str) -> Iterator[str]:
    """The address, with `path`, at which nginx serves what answers at `address`."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    location = page.split("```nginx\n")[1].split("```")[0]  # the very lines that the page tells to copy
    assert f"location {path}/" in location
    most = int(location.split("client_max_body_size ")[1].split("m;")[0])
    assert most > DashboardSettings.model_fields["upload_limit_mb"].default, "an upload is more than its file"
    port, places = free_port(), " ".join(f"{kind}_temp_path t;" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        # Its workers would otherwise be nobody, who may not write an upload into this folder.
        f"user root root; daemon off; pid n.pid; error_log error.log; events {{}} http {{ access_log off; "
        f"client_body_temp_path t; {places} server {{ listen 127.0.0.1:{port}; "
        f"{location.replace('127.0.0.1:8501', urlsplit(address).netloc)} }} }}"
    )
    command = [str(NGINX), "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
    server = subprocess.Popen(command, cwd=folder)
    try:
        for _ in range(60):
            try:
                build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}{path}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.5)
        else:
            pytest.fail("nginx did not answer")
        yield f"http://127.0.0.1:{port}{path}"
    finally:
        server.terminate()
        server.wait(timeout=30)
