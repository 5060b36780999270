"""Laws of the server's process: told to stop, it says so and ends as if interrupted."""

from __future__ import annotations

from pathlib import Path

from served import free_port, launched, served


def test_a_server_that_is_told_to_stop_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as here:
        pass
    assert here.log.splitlines()[-1] == "the dashboard has stopped"
    assert "Traceback" not in here.log
    assert [path for path in tmp_path.iterdir() if path.name.startswith("cmssd-")] == []


def test_a_mistake_is_exit_status_2(tmp_path: Path) -> None:
    done = launched(tmp_path, "--port", str(free_port()), threads="many")
    said, _ = done.communicate(timeout=120)
    assert done.returncode == 2
    assert said.startswith("CMSSD_THREADS=many came, expected ")
