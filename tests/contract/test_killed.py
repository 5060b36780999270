"""Killed with kill -9 at random moments: nothing lives on, nothing is half-written, and it goes on as if never."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import killed
import pytest
import tiny


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    (tally,) = killed.matrix({"a review being written": 2}, tmp_path, 1, drawn=6)
    assert tally.kills == 2
    assert tally.sound, tally


@pytest.mark.slow
def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    found = killed.matrix(killed.SHARES, tmp_path, random.SystemRandom().randrange(2**31))
    assert sum(tally.kills for tally in found) >= 50
    assert [tally for tally in found if not tally.sound] == []


def at_once(work: killed.Work, at: Path) -> list[tuple[int, str]]:
    """The same work by two processes into one folder and one cache: how each ended, and what it said."""
    at.mkdir()
    both = [
        subprocess.Popen(
            work.command(at), cwd=at, env=killed.environment(at), text=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    return [(each.wait(), each.communicate()[1]) for each in both]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict", "evaluate", "synth", "train"])
def test_two_processes_on_one_folder_and_cache_give_what_one_gives(name: str, tmp_path: Path) -> None:
    """Where only one may write, the other one says so in a sentence."""
    work = killed.works(tiny.tiny_cohort(tmp_path / "cohort", split="train"), drawn=6)[name]
    killed.finish(work, tmp_path / "whole")
    ends = at_once(work, tmp_path / "both")
    assert 0 in {status for status, _ in ends}
    for status, said in ends:
        assert status == 0 or (status == 2 and "another process writes into out; wait until it has ended" in said), said
        assert "Traceback" not in said
    assert work.result(tmp_path / "both") == work.result(tmp_path / "whole")
    assert killed.torn(tmp_path / "both") == []


def test_half_a_file_would_be_found(tmp_path: Path) -> None:
    """So that "nothing is half-written" says something."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text('{"a": 1', encoding="utf-8")
    (tmp_path / "out" / "table.csv").write_text("a,b\n1,", encoding="utf-8")
    (tmp_path / "out" / "page.html").write_text("<html><body>", encoding="utf-8")
    assert len(killed.torn(tmp_path)) == 3
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    time.sleep(0.05)
    assert [line.split()[0] for line in killed.alive(other.pid)] == [str(other.pid)]
    other.kill()
    other.wait()
    assert killed.alive(other.pid) == []
