"""Starts the dashboard, without sign-in on this machine only: `python -m dashboard.launch`, or `cmssd app`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

FIRST_PORT = 8501


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True


def serve(*, cohort: Path | None = None, port: int | None = None, headless: bool = False) -> int:
    """Serves until interrupted; gives the exit status: 0 done, 2 the user's mistake (one sentence on stderr).

    cohort: a cohort.csv or the folder it lies in; None = the demo cohort. port: None takes the first free one from
    8501 on. headless: opens no browser window.
    """
    if cohort is not None and not (cohort / "cohort.csv" if cohort.is_dir() else cohort).is_file():
        print(f"no cohort.csv at {cohort}; name a cohort.csv or the folder it lies in", file=sys.stderr)
        return 2
    if cohort is not None:
        os.environ["CMSSD_COHORT"] = str(cohort.resolve())

    from cmssd_core.config import settings
    from cmssd_core.types import InputError
    from dashboard import sign_in
    from dashboard.config import dashboard_settings

    try:
        settings()  # what is wrong with the core's is said now, not on the first page
        chosen = dashboard_settings()
        sign_in.refuse_open_door(chosen.host, chosen)
        path = chosen.path
    except InputError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    host = chosen.host
    if port is not None and not _free(host, port):
        print(f"port {port} is taken or not allowed; name another with --port, or leave it out", file=sys.stderr)
        return 2
    number = port or next((n for n in range(FIRST_PORT, FIRST_PORT + 100) if _free(host, n)), None)
    if number is None:
        print(f"no free port at {host} from {FIRST_PORT} on; name one with --port, or mend CMSSD_HOST", file=sys.stderr)
        return 2
    from dashboard.app import app

    address = chosen.public_url or f"http://{f'[{host}]' if ':' in host else host}:{number}{path}"
    print(f"CM-SSD, research use only: {address} (Ctrl-C stops it)", flush=True)
    # Streamlit looks for .streamlit/config.toml beside the script that was started, which may be `cmssd` itself.
    sys.argv = [str(Path(__file__).with_name("app.py").resolve())]
    # As Ctrl-C, so that what it keeps of patients and secrets is removed on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app.run(
            config={
                "server.address": host,
                "server.port": number,
                "server.baseUrlPath": path,
                "server.headless": headless,
                "server.maxUploadSize": chosen.upload_limit_mb,
                "browser.gatherUsageStats": False,
                **({"browser.serverAddress": urlsplit(chosen.public_url).hostname} if chosen.public_url else {}),
            }
        )
    except KeyboardInterrupt:
        print("the dashboard has stopped", file=sys.stderr)
        return 130
    return 0


def main() -> int:
    """The command line of `python -m dashboard.launch`."""
    parser = argparse.ArgumentParser(prog="python -m dashboard.launch", description="CM-SSD, research use only")
    parser.add_argument("--cohort", type=Path, help="cohort.csv or its folder; its first case is the demo case")
    parser.add_argument("--port", type=int, help=f"default: the first free one from {FIRST_PORT} on")
    parser.add_argument("--headless", action="store_true", help="open no browser window")
    given = parser.parse_args()
    return serve(cohort=given.cohort, port=given.port, headless=given.headless)


if __name__ == "__main__":
    sys.exit(main())
