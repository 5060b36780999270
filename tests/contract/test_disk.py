"""Laws of a disk that is full or read-only: one sentence, what was there is there, and with room all goes on.

The disks are small ones in memory, 8 MB, so that they are really full; a machine that lets nobody mount skips them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import killed
import numpy as np
import pytest
from command import run
from safetensors.numpy import load_file, save_file

from cmssd_core.config import settings
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.reviews.record import Reading
from cmssd_core.reviews.store import open_at
from cmssd_core.studies import jobs
from cmssd_core.training.recipe import text_of
from cmssd_core.training.run_folder import Metrics
from cmssd_core.types import InputError

pytestmark = [
    pytest.mark.usefixtures("quick_commands"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"),
]


class Disk:
    """A file system of 8 MB at `path`."""

    def __init__(self, path: Path) -> None:
        self.path, self._filler = path, path / "filler"

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def fill(self, *, left_kb: int = 0) -> None:
        """Leave so much room and no more."""
        state = os.statvfs(self.path)
        free = state.f_bavail * state.f_frsize - left_kb * 1024
        with self._filler.open("ab") as file:
            file.write(b"\1" * max(0, free))

    def free(self) -> None:
        """Take the filler away."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(path)], capture_output=True).returncode:
        pytest.skip("this sandbox does not allow mounting")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def predict(cohort: Path, case: str, out: Path) -> int:
    files = cohort / "cases" / case
    return run("predict", "--contrast", f"t1={files / 't1.nii.gz'}", "--he", files / "slide.tif", "--mpp", 1,
               "--out", out)  # fmt: skip


def sentence(capsys) -> str:
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "No space left on device" in said or "Read-only file system" in said
    return said


@pytest.mark.parametrize("left_kb", [0, 16])
def test_predict_onto_a_full_disk_keeps_the_result_of_before(disk, cohort, capsys, left_kb: int) -> None:
    assert predict(cohort, "synth-00000", disk.path / "out") == 0
    before = killed._predicted(disk.path)
    disk.fill(left_kb=left_kb)
    capsys.readouterr()
    assert predict(cohort, "synth-00001", disk.path / "out") == 2
    said = capsys.readouterr().err  # ITK may not say what the disk said, only that a file is not whole
    assert said.startswith("the results cannot be written")
    assert len(said.splitlines()) == 1
    assert killed._predicted(disk.path) == before
    assert {path.name for path in disk.path.iterdir()} == {"out", "filler"}


def test_a_cache_that_takes_nothing_changes_no_answer(disk, cohort, tmp_path, monkeypatch) -> None:
    assert predict(cohort, "synth-00000", tmp_path / "whole" / "out") == 0
    told, files = killed._predicted(tmp_path / "whole")
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(disk.path / "cache"))
    settings.cache_clear()
    assert predict(cohort, "synth-00001", tmp_path / "other" / "out") == 0  # leaves entries
    disk.fill()
    for options in ("size=8m", "ro"):
        disk.remount(options)
        assert predict(cohort, "synth-00000", tmp_path / "out") == 0
        again, same = killed._predicted(tmp_path)
        assert (again | {"quality": told["quality"]}, same) == (told, files)
        assert {each["where"] for each in again["quality"]} - {each["where"] for each in told["quality"]} == {"cache"}
        assert killed.torn(disk.path) == []


def test_a_job_on_a_disk_that_takes_nothing_is_a_sentence(disk, cohort, monkeypatch) -> None:
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(disk.path / "cache"))
    settings.cache_clear()
    asked = jobs.ask(cohort, disk.path / "cache" / "results", settings())
    disk.fill()
    for options in ("size=8m", "ro"):
        disk.remount(options)
        with pytest.raises(InputError, match=r"No space left|Read-only file system|no folder can be made"):
            jobs.start(asked, settings())
        assert jobs.list_jobs(settings()) == ()


@pytest.mark.slow
def test_a_training_goes_on_after_a_full_disk_to_the_very_same_weights(disk, cohort, tmp_path, capsys) -> None:
    """Eight megabytes hold the prepared cases and no checkpoint."""
    (tmp_path / "config.json").write_text(text_of(killed.RECIPE), encoding="utf-8")
    command = ("train", cohort, "--config", tmp_path / "config.json")
    assert run(*command, "--out", tmp_path / "whole" / "out") == 0
    capsys.readouterr()
    assert run(*command, "--out", disk.path / "out") == 2
    assert "checkpoint.safetensors cannot be written" in sentence(capsys)
    assert killed.torn(disk.path) == []
    assert not list((disk.path / "out").glob(".*"))
    disk.remount("size=200m")
    assert run(*command, "--out", disk.path / "out", "--resume") == 0
    assert killed._trained(disk.path) == killed._trained(tmp_path / "whole")


def write_rows(metrics: Metrics) -> None:
    for step in range(10_000):
        metrics.write({"step": step, "total": 0.25, "tumour": 0.125})


def test_a_checkpoint_that_does_not_fit_leaves_the_one_of_before(disk) -> None:
    path = disk.path / "checkpoint.safetensors"
    write_atomic(path, lambda part: save_file({"a": np.ones(100)}, str(part)))
    with pytest.raises(InputError, match=r"checkpoint\.safetensors cannot be written \(.*No space left on device"):
        write_atomic(path, lambda part: save_file({"a": np.ones(2_000_000)}, str(part)))
    assert load_file(path)["a"].sum() == 100
    assert [left.name for left in disk.path.iterdir()] == [path.name]


def test_a_row_of_metrics_that_does_not_fit_is_none(disk) -> None:
    path = disk.path / "metrics.csv"
    metrics = Metrics(path, 0, ("tumour",))
    disk.fill()
    with pytest.raises(InputError, match=r"metrics\.csv cannot be written \(No space left on device\); free some"):
        write_rows(metrics)
    metrics.close()
    rows = path.read_bytes()
    assert rows.endswith(b"\r\n")
    assert {line.count(b",") for line in rows.splitlines()} == {7}
    disk.free()
    Metrics(path, 5, ("tumour",)).close()
    assert [line.split(b",")[0] for line in path.read_bytes().splitlines()] == [b"step", *b"0 1 2 3 4".split()]


@pytest.mark.slow
def test_evaluate_on_a_full_disk_is_a_sentence_and_goes_on(disk, cohort, capsys) -> None:
    command = ("evaluate", cohort, "--split", "all", "--corruptions", "off", "--workers", 1, "--out", disk.path / "out")
    assert run(*command) == 0
    before = killed._figures(disk.path)
    disk.fill()
    capsys.readouterr()
    assert run(*command) == 2  # every part is there; its figures are not written anew
    sentence(capsys)
    assert killed._figures(disk.path) == before
    disk.free()
    assert run(*command) == 0
    assert killed._figures(disk.path) == before


def test_a_cohort_on_a_full_disk_is_a_sentence_and_goes_on(disk, tmp_path, capsys) -> None:
    command = ("--cases", 3, "--shape", "6,64,64", "--contrasts", "t1,t2", "--slide-px", 256, "--workers", 1)
    assert run("synth", tmp_path / "whole" / "out", *command) == 0
    disk.fill(left_kb=300)
    capsys.readouterr()
    assert run("synth", disk.path / "out", *command) == 2
    sentence(capsys)
    assert killed.torn(disk.path) == []
    disk.free()
    assert run("synth", disk.path / "out", *command) == 0
    assert killed._files(disk.path) == killed._files(tmp_path / "whole")


def test_a_review_that_does_not_fit_is_not_saved_and_those_of_before_are(disk) -> None:
    def reading(number: int) -> Reading:
        return Reading("anna", f"{number:064x}", "m", 10, {"osteoid": "present"}, True)

    reviews = open_at(str(disk.path / "reviews.sqlite"))
    kept = [reviews.add_reading(reading(n)) for n in range(3)]
    disk.fill()

    def save_many() -> None:
        for number in range(3, 5000):
            kept.append(reviews.add_reading(reading(number)))

    with pytest.raises(InputError, match="nothing was saved now"):
        save_many()
    assert list(reviews.readings()) == kept
    disk.free()
    kept.append(reviews.add_reading(reading(len(kept))))
    reviews.close()
    assert list(open_at(str(disk.path / "reviews.sqlite")).readings()) == kept
