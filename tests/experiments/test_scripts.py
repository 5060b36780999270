"""Experiments and benchmarks from outside: each can be loaded, and none of them works before it is asked to."""

from __future__ import annotations

import subprocess
import sys

import pytest
from places import ROOT

SCRIPTS = sorted(path for folder in ("experiments", "benchmarks") for path in (ROOT / folder).glob("[!_]*.py"))


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_every_script_loads_and_says_nothing(folder: str) -> None:
    names = [f"{folder}.{path.stem}" for path in SCRIPTS if path.parent.name == folder]
    assert len(names) >= 10
    loads = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    ended = subprocess.run([sys.executable, "-c", loads], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_script_is_run_by_the_name_it_gives_itself(path) -> None:
    text = path.read_text(encoding="utf-8")
    other = {"experiments": "benchmarks", "benchmarks": "experiments"}[path.parent.name]
    said = text.split('"""')[1]
    assert f"-m {other}." not in said
    if "-m " in said:
        assert f"python -m {path.parent.name}.{path.stem}" in said
