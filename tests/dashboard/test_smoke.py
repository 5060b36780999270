"""Laws of the demo: what it asks of the command line follows from cohort.csv, and it never leaves a server behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from places import ROOT

from dashboard import smoke
from dashboard.smoke import SmokeError, demo, predict_arguments, result_block, wait_until_healthy

RESULT = {
    "case_id": "a" * 64, "model_id": "cmssd-compact-1234", "trained": "a synthetic cohort", "severity_pct": 41.26,
    "severity_reason": None, "severity_interval": [30.0, 52.5], "p_malignant": 0.9312, "tier": "moderate",
    "tumour_ml": 12.0, "bone_ml": 80.25, "timings_s": {"read": 1.0, "model": 2.5},
}  # fmt: skip

#: Stands in for `cmssd`: predict writes a result, app serves /health on the port it is given and notes its process.
STAND_IN = """\
#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
given = sys.argv[1:]
if given[0] == "predict":
    if "{broken}" == "predict":
        sys.exit(2)
    out = Path(given[given.index("--out") + 1])
    out.mkdir(parents=True, exist_ok=True)
    (out / "prediction.json").write_text({result!r}, encoding="utf-8")
    sys.exit(0)
Path("{folder}/pid").write_text(str(os.getpid()), encoding="utf-8")
if "{broken}" == "app":
    sys.exit(3)
class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(json.dumps({{"status": "ok"}}).encode())
    def log_message(self, *_):
        pass
port = int(given[given.index("--port") + 1]) if "--port" in given else 0
try:
    HTTPServer(("127.0.0.1", port), Health).serve_forever()
except KeyboardInterrupt:
    sys.exit(130)
"""


def cohort(folder: Path, text: str) -> Path:
    path = folder / "cohort.csv"
    path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return path


def stand_in(folder: Path, *, broken: str = "") -> list[str]:
    path = folder / "cmssd"
    path.write_text(
        STAND_IN.format(python=sys.executable, broken=broken, folder=folder, result=json.dumps(RESULT)),
        encoding="utf-8",
    )
    path.chmod(0o755)
    return [str(path)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_first_row_says_what_is_predicted(tmp_path):
    table = cohort(
        tmp_path,
        """
        case_id,mri_t1,mri_t2,mri_stir,slide,slide_mpp,site_x_mm,site_y_mm,site_z_mm
        one,a/t1.nii.gz,a/t2.nii.gz,,a/he.png,1.0,-3.5,4,0
        two,b/t1.nii.gz,,,,,,,
        """,
    )
    assert predict_arguments(table, tmp_path / "out") == [
        "predict",
        *("--contrast", f"t1={tmp_path / 'a/t1.nii.gz'}", "--contrast", f"t2={tmp_path / 'a/t2.nii.gz'}"),
        *("--he", str(tmp_path / "a/he.png"), "--mpp", "1.0", "--site=-3.5,4,0", "--out", str(tmp_path / "out")),
    ]


def test_what_is_missing_is_left_out(tmp_path):
    out = tmp_path / "out"
    table = cohort(tmp_path, "case_id,mri_t1,slide,slide_mpp,site_x_mm\none,,he.png,,1\n")
    assert predict_arguments(table, out) == ["predict", "--he", str(tmp_path / "he.png"), "--out", str(out)]
    table = cohort(tmp_path, "case_id,mri_t1\none,t1.nii.gz\n")
    assert predict_arguments(table, out) == ["predict", "--contrast", f"t1={tmp_path / 't1.nii.gz'}", "--out", str(out)]


@pytest.mark.parametrize("text", ["case_id,mri_t1\n", "case_id,mri_t1,slide\none,,\n"])
def test_a_cohort_without_a_case_is_told(tmp_path, text):
    with pytest.raises(SmokeError, match=r"cohort\.csv"):
        predict_arguments(cohort(tmp_path, text), tmp_path)


def test_no_cohort_is_told(tmp_path):
    with pytest.raises(SmokeError, match=r"no .*cohort\.csv"):
        predict_arguments(tmp_path / "cohort.csv", tmp_path)


def test_the_result_carries_its_doubt():
    block = result_block(RESULT)
    assert "Research use only" in block
    assert "41.3 % (interval 30.0 to 52.5)" in block
    assert "trained on: a synthetic cohort" in block
    assert "3.5 s" in block


def test_no_severity_is_said_with_its_reason():
    bare = {"case_id": "b" * 64, "model_id": "m", "trained": "untrained", "severity_pct": None, "p_malignant": 0.5}
    assert "none (no MRI)" in result_block({**bare, "severity_reason": "no MRI"})


def test_the_demo_shows_result_and_address_and_leaves_no_server(tmp_path, capfd):
    cohort(tmp_path, "case_id,mri_t1\none,t1.nii.gz\n")
    demo(stand_in(tmp_path), data=tmp_path, out=tmp_path / "out", headless=True)
    shown = capfd.readouterr().out
    assert "41.3 %" in shown
    assert "http://127.0.0.1:" in shown
    assert not alive(int((tmp_path / "pid").read_text(encoding="utf-8")))


def test_a_failing_prediction_starts_no_server(tmp_path):
    cohort(tmp_path, "case_id,mri_t1\none,t1.nii.gz\n")
    with pytest.raises(SmokeError, match="predict ended with status 2"):
        demo(stand_in(tmp_path, broken="predict"), data=tmp_path, out=tmp_path / "out", headless=True)
    assert not (tmp_path / "pid").exists()


def test_a_server_that_ends_is_told_at_once(tmp_path):
    cohort(tmp_path, "case_id,mri_t1\none,t1.nii.gz\n")
    with pytest.raises(SmokeError, match="ended with status 3"):
        demo(stand_in(tmp_path, broken="app"), data=tmp_path, out=tmp_path / "out", headless=True)


def test_a_server_that_never_answers_is_given_up():
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with pytest.raises(SmokeError, match="did not say ok within 1 s"):
            wait_until_healthy(f"http://127.0.0.1:{smoke._free_port()}", server, wait_s=1)
    finally:
        smoke.stop(server)
    assert server.poll() is not None


def test_a_proxy_for_the_outside_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    cohort(tmp_path, "case_id,mri_t1\none,t1.nii.gz\n")
    demo(stand_in(tmp_path), data=tmp_path, out=tmp_path / "out", headless=True)


OPEN_DEMO = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and its children inherit that
from dashboard import smoke
sys.executable = str(Path(sys.argv.pop(1)) / "python")  # the stand-in `cmssd` lies beside it
sys.exit(smoke.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaving_an_open_dashboard_ends_the_demo_as_done(number, tmp_path):
    cohort(tmp_path, "case_id,mri_t1\none,t1.nii.gz\n")
    stand_in(tmp_path)
    arguments = [str(tmp_path), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    started = subprocess.Popen(
        [sys.executable, "-c", OPEN_DEMO, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)  # the file is made before it is written
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    started.send_signal(number)
    shown, said = started.communicate(timeout=60)
    assert started.returncode == 0
    assert "41.3 %" in shown
    assert said == ""
    assert not alive(pid)


def test_a_dashboard_that_cannot_open_is_told(tmp_path):
    cohort(tmp_path, "case_id,mri_t1\none,t1.nii.gz\n")
    with pytest.raises(SmokeError, match="the dashboard ended with status 3"):
        demo(stand_in(tmp_path, broken="app"), data=tmp_path, out=tmp_path / "out", headless=False)
