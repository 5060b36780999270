"""Laws of a program that starts: what an answer does not need is not imported. No timing: modules are counted."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT, SAMPLES

SCAN = SAMPLES / "cases" / "synth-00000" / "t1.nii.gz"
SLIDE = SAMPLES / "cases" / "synth-00000" / "slide.tif"
#: Libraries that take from a tenth of a second to seconds to import.
HEAVY = {
    *("torch", "torchio", "pandas", "pandera", "pyarrow", "sklearn", "scipy", "skimage", "SimpleITK", "captum"),
    *("streamlit", "plotly", "numpy", "pydicom", "openslide", "pydantic_settings", "rich", "safetensors"),
}
AFTER = """
import json, sys
from cmssd_core import cli
try:
    cli.main(sys.argv[1:])
except SystemExit as end:
    pass
print("\\n" + json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def imported(*arguments: str | Path) -> set[str]:
    """The heavy libraries that are there once a command has ended."""
    command = [sys.executable, "-c", AFTER, *map(str, arguments)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return HEAVY & set(json.loads(said.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["models", "--json"], ["conjure"]])
def test_help_and_the_list_of_models_need_no_library(arguments: list[str]) -> None:
    assert imported(*arguments) == set()


def test_inspecting_a_scan_needs_its_reader_alone() -> None:
    assert imported("inspect", SCAN) == {"numpy"}


def test_inspecting_a_slide_needs_neither_torch_nor_tables() -> None:
    assert not imported("inspect", SLIDE) & {"torch", "pandas", "sklearn", "scipy", "captum", "streamlit"}


def test_a_refused_file_is_refused_before_the_network_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "broken_t1.nii.gz").write_text("no image\n", encoding="utf-8")
    given = imported("predict", "--mri", tmp_path / "broken_t1.nii.gz")
    assert given == {"numpy", "pydantic_settings"}


def test_the_doctor_speaks_before_it_has_loaded_what_it_checks() -> None:
    words = "import sys; from cmssd_core.config import Settings; from cmssd_core.machine.doctor import run_checks; "
    words += "print(next(run_checks(Settings())).name, 'torch' in sys.modules, 'SimpleITK' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, cwd=ROOT, check=True)
    assert said.stdout.split() == ["python", "False", "False"]


def test_reading_brings_no_network() -> None:
    words = "import sys; from cmssd_core.cases.admit import admit; from pathlib import Path; "
    words += "admit(mri=Path(sys.argv[1]), he=Path(sys.argv[2]), mpp=1.0); print('torch' in sys.modules)"
    command = [sys.executable, "-c", words, str(SCAN), str(SLIDE)]
    assert subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip() == "False"


def test_nouns_and_commands_import_libraries_only_where_they_are_used() -> None:
    files = [ROOT / "cmssd_core" / "types.py", *(ROOT / "cmssd_core" / "commands").glob("*.py")]
    for path in files:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        named = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        named |= {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in named} & HEAVY, path.name
