"""The law of damaged files: whatever is done to one, its reader reads it rightly or refuses it in a sentence.

CMSSD_TEST_FUZZ_SECONDS says how long. The suite tries the same mutants each time, `make test-slow` new ones.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import fuzz
import pytest
from fuzz_seeds import Seed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its limits")
#: With what is read once per seed and child, less than 2 minutes in all.
SUITE_S, SLOW_S = 100.0, 3600.0


def seconds(default: float) -> float:
    return float(os.environ.get("CMSSD_TEST_FUZZ_SECONDS") or default)


def hold(tally: fuzz.Tally, *, each: int) -> None:
    print(tally.describe())
    assert tally.unread == {}, "a sound file is not read"
    assert tally.faults == [], tally.describe()
    assert min(tally.mutants.values()) >= each
    # A fuzzer whose every mutant is refused at the door tries no reader.
    assert min(tally.read[name] for name in tally.mutants) > 0


def test_no_damaged_file_ends_a_reader_or_is_read_wrongly(tmp_path: Path) -> None:
    hold(fuzz.run(tmp_path, number=0, seconds=seconds(SUITE_S), workers=1), each=15)


@pytest.mark.slow
def test_an_hour_of_new_damage_ends_no_reader(tmp_path: Path) -> None:
    number = random.SystemRandom().randrange(1 << 32)
    print(f"run {number}")
    hold(fuzz.run(tmp_path, number=number, seconds=seconds(SLOW_S)), each=100)


# What the fuzzer itself must keep


@pytest.mark.parametrize(
    ("words", "came", "what"),
    [
        ("raise", "fault", "KeyError at tests/fuzz_child.py:"),
        ("end", "crash", "SIGABRT"),
        ("hang", "hang", "no answer in 5 s"),
        ("refuse", "refused", "this is refused"),
        ("any", "read", ""),
    ],
)
def test_the_fuzzer_sees_what_a_reader_does(words: str, came: str, what: str, tmp_path: Path) -> None:
    child, path = fuzz.Child(), tmp_path / "file"
    path.write_text("any", encoding="utf-8")
    child.ask("faulty", path, longest_s=60)  # it has started
    path.write_text(words, encoding="utf-8")
    said = child.ask("faulty", path, longest_s=5)
    assert said["came"] == came
    assert what in str(said.get("what", ""))
    path.write_text("any", encoding="utf-8")
    assert child.ask("faulty", path, longest_s=60)["came"] == "read"  # and goes on
    child.end()


def test_the_fuzzer_sees_memory_beyond_its_measure_file_by_file(tmp_path: Path) -> None:
    child, path = fuzz.Child(), tmp_path / "file"
    peaks = []
    for words in ("any", "eat", "any"):
        path.write_text(words, encoding="utf-8")
        peaks.append(float(str(child.ask("faulty", path, longest_s=60)["peak_mb"])))
    child.end()
    assert peaks[1] > 500 > 2 * max(peaks[0], peaks[2])


def test_mutants_are_the_same_in_every_run_and_differ_from_turn_to_turn(tmp_path: Path) -> None:
    sound = bytes(range(256)) * 8
    seed = Seed(name="a", reader="faulty", path=tmp_path / "a", read=tmp_path / "a", sealed=1000, head=100)
    first, again = ([fuzz.mutate(seed, sound, random.Random(f"0 a {turn}")) for turn in range(300)] for _ in range(2))
    assert first == again
    assert len({mutant.content for mutant in first}) > 250
    guarded = [mutant for mutant in first if mutant.guarded]
    assert len(guarded) > 100
    assert all(mutant.content[:1000] == sound[:1000] for mutant in guarded)


def test_a_run_ends_in_time_and_tells_a_sound_file_that_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lone" / "file"
    path.parent.mkdir()
    path.write_text("raise", encoding="utf-8")
    lone = Seed(name="lone", reader="faulty", path=path, read=path)
    monkeypatch.setattr(fuzz, "write_seeds", lambda folder, weights: (lone,))
    start = time.monotonic()
    tally = fuzz.run(tmp_path / "run", number=0, seconds=3)
    assert time.monotonic() - start < 30
    assert set(tally.unread) == {"lone"}
    assert tally.mutants["lone"] > 0
