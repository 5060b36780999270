"""Laws of results on disk: whole or not at all, of one run, by one process, and a refusal of the disk is a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from places import ROOT
from safetensors.numpy import save_file

from cmssd_core.machine.atomic import claim, make_folder, write_atomic, write_together
from cmssd_core.types import InputError


def text(words: str):
    return lambda path: path.write_text(words, encoding="utf-8")


def fails(path: Path) -> None:
    path.write_text("half", encoding="utf-8")
    raise OSError(28, os.strerror(28))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_threads_that_write_one_file_at_once_never_show_a_mixture(tmp_path: Path) -> None:
    """With one name for the file on its way, the second one's bytes appeared in the first one's place."""
    path, seen = tmp_path / "file", set()
    contents = [str(n) * 200_000 for n in range(4)]
    write_atomic(path, text(contents[0]))

    def write(words: str) -> None:
        for _ in range(20):
            write_atomic(path, text(words))

    threads = [threading.Thread(target=write, args=(words,)) for words in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.add(path.read_text(encoding="utf-8"))
    assert seen <= set(contents)
    assert names(tmp_path) == {"file"}


def test_files_that_belong_together_are_all_of_before_where_one_cannot_be_written(tmp_path: Path) -> None:
    both = [tmp_path / "table", tmp_path / "seal"]
    write_together({both[0]: text("old"), both[1]: text("old")})
    with pytest.raises(InputError, match=r"seal cannot be written \(No space left on device\); choose"):
        write_together({both[0]: text("new"), both[1]: fails})
    assert [path.read_text(encoding="utf-8") for path in both] == ["old", "old"]
    assert names(tmp_path) == {"table", "seal"}


def test_where_the_seal_is_the_others_are_of_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before any of the renames, as a kill would."""
    files = [tmp_path / name for name in ("first", "second", "seal")]
    moved = Path.replace
    for survived in range(4):
        write_together({path: text("old") for path in files})
        left = survived

        def replace(self: Path, target: Path) -> Path:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return moved(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", replace)
            try:
                write_together({path: text("new") for path in files})
            except KeyboardInterrupt:
                assert not files[-1].exists()
                continue
        assert survived == 3
        assert {path.read_text(encoding="utf-8") for path in files} == {"new"}


def test_what_safetensors_says_of_a_disk_is_one_sentence(tmp_path: Path) -> None:
    """It raises an error of its own kind where a file cannot be made."""
    tensors = {"a": np.zeros(4)}
    with pytest.raises(InputError, match="weights cannot be written"):
        write_atomic(tmp_path / "gone" / "weights", lambda part: save_file(tensors, str(part)))


def test_what_a_killed_process_left_is_swept_when_it_is_nobodys(tmp_path: Path) -> None:
    old, young, own = (tmp_path / name for name in (".a.0123456789ab.part", ".b.0123456789ab.part", ".notes.part"))
    for path in (old, young, own):
        path.write_text("", encoding="utf-8")
    for path in (old, own):
        os.utime(path, (0, 0))
    make_folder(tmp_path)
    assert names(tmp_path) == {young.name, own.name}


HOLDS = """
import sys, time
from pathlib import Path
from cmssd_core.machine.atomic import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_has_one_writer_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=f"another process writes into {tmp_path.name}; wait"), claim(tmp_path):
            pass
        other.kill()
    with claim(tmp_path):
        pass
