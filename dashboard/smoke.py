"""The demo as one command: predict the first case of a cohort, serve the dashboard on it, wait until it answers."""

from __future__ import annotations

import argparse
import csv
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from cmssd_core.volume.contrasts import contrast_columns

WAIT_S = 60.0

# The server is on this machine: a proxy set for the outside must not be asked for it.
_OPENER = build_opener(ProxyHandler({}))


class SmokeError(RuntimeError):
    """The demo did not work; the sentence says at which step and what to look at."""


def predict_arguments(cohort: Path, out: Path) -> list[str]:
    """`cmssd predict ...` for the first row of a cohort.csv; empty columns are left out.

    Raises SmokeError where the table, its first row or all its inputs are missing.
    """
    if not cohort.is_file():
        raise SmokeError(f"no {cohort}; make demo needs the demo cohort of a full checkout")
    with cohort.open(newline="", encoding="utf-8-sig") as file:
        row = next(csv.DictReader(file), None)
    if row is None:
        raise SmokeError(f"{cohort} has a heading and no case; add a row")
    filled = {name: value.strip() for name, value in row.items() if isinstance(value, str) and value.strip()}

    arguments = ["predict"]
    for column, name in contrast_columns().items():
        if column in filled:
            arguments += ["--contrast", f"{name}={cohort.parent / filled[column]}"]
    if "slide" in filled:
        arguments += ["--he", str(cohort.parent / filled["slide"])]
    if len(arguments) == 1:
        raise SmokeError(f"the first row of {cohort} names neither an MRI nor a slide; fill mri_t1 or slide")
    if "slide_mpp" in filled:
        arguments += ["--mpp", filled["slide_mpp"]]
    site = [filled.get(f"site_{axis}_mm") for axis in "xyz"]
    if all(site):
        arguments.append("--site=" + ",".join(str(value) for value in site))  # one word: it may begin with a minus
    return [*arguments, "--out", str(out)]


def result_block(result: Mapping[str, Any]) -> str:
    """The figures of a prediction.json, for a terminal."""
    severity = "none" if result.get("severity_pct") is None else f"{result['severity_pct']:.1f} %"
    if result.get("severity_pct") is None and result.get("severity_reason"):
        severity += f" ({result['severity_reason']})"
    if result.get("severity_interval"):
        low, high = result["severity_interval"]
        severity += f" (interval {low:.1f} to {high:.1f})"
    lines = [
        ("case", str(result["case_id"])[:12]),
        ("model", f"{result['model_id']}; trained on: {result['trained']}"),
        ("severity", severity),
        ("p(malignant)", "none" if result.get("p_malignant") is None else f"{result['p_malignant']:.3f}"),
        ("tier", result.get("tier") or "none"),
    ]
    if (result.get("risk") or {}).get("value") is not None:
        lines.append(("log hazard", f"{result['risk']['value']:+.2f}"))
    for name in ("tumour_ml", "bone_ml"):
        if result.get(name) is not None:
            lines.append((name.removesuffix("_ml"), f"{result[name]:.1f} ml"))
    if result.get("timings_s"):
        lines.append(("time", f"{sum(result['timings_s'].values()):.1f} s"))
    return "\n".join(["Research use only, no diagnostic validity.", *(f"  {name:<13}{value}" for name, value in lines)])


def wait_until_healthy(address: str, server: subprocess.Popen[Any], *, wait_s: float = WAIT_S) -> dict[str, Any]:
    """What the health route says, once it says "ok". Raises SmokeError where it does not, or the server ends."""
    until = time.monotonic() + wait_s
    last = "nothing answered"
    while time.monotonic() < until:
        if server.poll() is not None:
            raise SmokeError(f"the server ended with status {server.returncode} before it answered")
        try:
            with _OPENER.open(f"{address}/health", timeout=5) as answer:
                words = json.load(answer)
            if isinstance(words, dict) and words.get("status") == "ok":
                return words
            last = f"it said {words!r}"
        except (URLError, OSError, ValueError) as error:
            last = str(error)
        time.sleep(0.2)
    raise SmokeError(f"{address}/health did not say ok within {wait_s:.0f} s: {last}")


def stop(server: subprocess.Popen[Any]) -> None:
    """Ends the server as Ctrl-C would, and by force where it does not listen."""
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if server.poll() is not None:
            return
        server.send_signal(signal_number)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue


def serve_until_interrupted(command: Sequence[str]) -> None:
    """Runs the dashboard until Ctrl-C. Raises SmokeError where it ends by itself with an error."""
    server = subprocess.Popen(command)
    try:
        status = server.wait()
    except KeyboardInterrupt:
        stop(server)  # a terminal has told it too, but a signal sent to this process alone has not
        return
    if status not in (0, 130):
        raise SmokeError(f"the dashboard ended with status {status}; its last line says why")


def demo(command: Sequence[str], *, data: Path, out: Path, headless: bool) -> None:
    """Runs the main job, shows its result, then serves: until interrupted, or headless until it has answered.

    Ctrl-C is how one leaves an open dashboard, so it ends the demo as done. Raises SmokeError where a step fails.
    """
    # Its own summary would stand there twice; progress and errors come on stderr.
    done = subprocess.run([*command, *predict_arguments(data / "cohort.csv", out)], stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SmokeError(f"cmssd predict ended with status {done.returncode}; `cmssd doctor` tells what is missing")
    result = result_block(json.loads((out / "prediction.json").read_text(encoding="utf-8")))
    serve = [*command, "app", "--cohort", str(data)]
    if not headless:
        print(f"\n{result}\n  files        {out}\n", flush=True)
        serve_until_interrupted(serve)
        return

    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([*serve, "--headless", "--port", str(port)])
    try:
        health = wait_until_healthy(address, server)
        print(f"\n{result}\n  files        {out}\n  dashboard    {address} answered {json.dumps(health)}", flush=True)
    finally:
        stop(server)
    print("All of it works. `make demo` without HEADLESS keeps the dashboard open.", flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """The command line of `make demo`; exit status 0 where all of it worked, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m dashboard.smoke", description="CM-SSD demo, research use only")
    parser.add_argument("--data", type=Path, default=Path("data_samples"), help="folder with a cohort.csv")
    parser.add_argument("--out", type=Path, default=Path(".demo"), help="where the prediction is written")
    parser.add_argument("--headless", action="store_true", help="stop once the dashboard has answered")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no server is left behind
    command = [str(Path(sys.executable).with_name("cmssd"))]
    try:
        demo(command, data=given.data, out=given.out, headless=given.headless)
    except SmokeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
