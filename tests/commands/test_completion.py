"""Laws of what a shell proposes: what is typed is gone on with, and every name is one the core knows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from places import ROOT

from cmssd_core.audit.run import SHARES
from cmssd_core.commands import completion
from cmssd_core.explain.methods import METHODS
from cmssd_core.explain.targets import TARGETS
from cmssd_core.models import MODELS
from cmssd_core.volume.contrasts import CONTRASTS

COMPLETING = "import sys; from cmssd_core import cli; sys.argv = ['cmssd']; cli.main()"


def completed(line: str) -> list[str]:
    """What bash is told behind a line, as it asks: in a process of its own, by variables."""
    asked = {"_CMSSD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    command = [sys.executable, "-c", COMPLETING]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | asked, check=False)
    return said.stdout.split()


def test_the_names_said_twice_are_the_tables() -> None:
    assert {*completion.METHODS, *completion.SHARES} == set(METHODS)
    assert set(completion.SHARES) == set(SHARES)
    assert set(completion.TARGETS) == {name for name, target in TARGETS.items() if not target.regional}
    assert completion.propose_model("") == list(MODELS)
    assert completion.propose_contrast("") == [f"{name}=" for name in CONTRASTS]


def test_a_list_of_models_goes_on_behind_its_comma() -> None:
    assert completion.propose_models("cm") == ["cmssd"]
    assert "cmssd,late" in completion.propose_models("cmssd,l")
    assert "cmssd,cmssd" not in completion.propose_models("cmssd,")


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("cmssd ev", "evaluate"),
        ("cmssd train x --mod", "--model"),
        ("cmssd train x --model res", "resnet50"),
        ("cmssd explain --method int", "integrated_gradients"),
        ("cmssd evaluate x --split te", "test"),
    ],
)
def test_a_shell_that_asks_is_answered(line: str, proposed: str) -> None:
    assert proposed in completed(line)


def test_the_script_for_a_shell_is_shown() -> None:
    asked = os.environ | {"_CMSSD_COMPLETE": "source_bash"}
    said = subprocess.run([sys.executable, "-c", COMPLETING], capture_output=True, text=True, cwd=ROOT, env=asked)
    assert "complete" in said.stdout
    assert "cmssd" in said.stdout
