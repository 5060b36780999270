"""Laws of what commands say: the core knows no flag, a mistake is shown with the flag of the command it came from."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest
import typer
from command import run
from places import ROOT

from cmssd_core import cli
from cmssd_core.commands.terminal import FLAGS, name_flag
from cmssd_core.types import InputError, about

CORE = [path for path in sorted((ROOT / "cmssd_core").rglob("*.py")) if path.parent.name != "commands"]
FLAG = re.compile(r"(?<![\w-])--[a-z]")

#: Words of other programs: pip's, git's and our own `cmssd --help`, which is no flag of a field.
OTHERS = {
    "cmssd_core/cli.py": {" (see cmssd --help)"},
    "cmssd_core/machine/doctor.py": {
        "run `make install`, or pip install --no-deps --no-build-isolation -r requirements.lock"
    },
    "cmssd_core/training/run_folder.py": {"--porcelain"},
}
#: A profile of expression is read, and no command takes one yet.
NO_FLAG_YET = {"patient_id", "rna", "unit"}


def sentences(path: Path) -> list[str]:
    """Every string of a file that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if text not in docstrings]


def fields(path: Path) -> set[str]:
    """The fields a file's mistakes are about: `InputError(words, "mpp")`, `about("mri")`, `field="shape"`."""
    found: set[ast.expr] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            found |= {word.value for word in node.keywords if word.arg == "field"}
            found |= set(node.args[1:2] if name == "InputError" else node.args if name == "about" else [])
    return {node.value for node in found if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def options() -> dict[str, set[str]]:
    commands = typer.main.get_command(cli.app).commands
    return {name: {flag for given in command.params for flag in given.opts} for name, command in commands.items()}


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_sentence_of_the_core_names_a_flag(path: Path) -> None:
    allowed = OTHERS.get(path.relative_to(ROOT).as_posix(), set())
    assert [text for text in sentences(path) if FLAG.search(text) and text not in allowed] == []


def test_every_field_the_core_names_has_its_flag_and_every_flag_is_one_of_a_command() -> None:
    told = set().union(*map(fields, CORE))
    assert {"mri", "he", "mpp", "site", "weights", "model", "steps", "split", "against"} <= told
    assert told - set(FLAGS) <= NO_FLAG_YET
    everywhere = set().union(*options().values())
    assert {flag for text in FLAGS.values() for flag in re.findall(r"--[a-z-]+", text)} <= everywhere


def test_a_flag_is_named_only_where_the_command_has_it() -> None:
    mistake = InputError("tiles say no microns per pixel; say them", "mpp")
    assert name_flag(mistake, flags=options()["evaluate"]) == "tiles say no microns per pixel; say them (--mpp)"
    assert name_flag(mistake, flags=options()["train"]) == "tiles say no microns per pixel; say them"
    assert (
        name_flag(InputError("row 3 is empty; fill it in"), flags=options()["evaluate"]) == "row 3 is empty; fill it in"
    )
    both = InputError("neither came; add one", "inputs")
    assert name_flag(both, flags={"--mri", "--he"}) == "neither came; add one (--mri, --he)"
    assert name_flag(both, flags={"--mri"}) == "neither came; add one"


def test_the_innermost_field_stays_and_travels_between_processes() -> None:
    with pytest.raises(InputError) as caught, about("mri"), about("contrast"):
        raise InputError("T7 came; name another")
    assert caught.value.field == "contrast"
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.field) == ("T7 came; name another", "contrast")


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["predict"], "(--mri, --he)"),
        (["predict", "--mri", "README.md"], "(--mri)"),
        (["predict", "--mri", "brain.nii"], "(--contrast NAME=PATH)"),
        (["predict", "--contrast", "t1=README.md"], "(--contrast NAME=PATH)"),
        (["predict", "--mri", "tile.png"], "(--he)"),
        (["predict", "--he", "README.md"], "(--he)"),
        (["predict", "--he", "brain.nii"], "(--mri)"),
        (["predict", "--he", "tile.png"], "(--mpp)"),
        (["predict", "--he", "tile.png", "--mpp", "99"], "(--mpp)"),
        (["predict", "--he", "tile.png", "--mpp", "1", "--site", "1,2"], "(--site)"),
        (["predict", "--he", "tile.png", "--mpp", "1", "--weights", "README.md"], "(--weights)"),
        (["inspect", "tile.png"], "(cmssd predict --mpp)"),
        (["synth", "x", "--slide-px", "7"], "(--slide-px)"),
        (["synth", "x", "--shape", "1,2"], "(--shape)"),
        (["train", ".", "--config", "nowhere.json"], "(--config)"),
        (["compare", ".", "--models", "cmssd"], "(--models)"),
        (["explain", "--he", "tile.png", "--mpp", "1", "--method", "guessing"], "(--method)"),
    ],
)
def test_the_sentence_on_stderr_ends_with_the_flag(
    arguments: list[str], flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("no image\n", encoding="utf-8")
    (tmp_path / "brain.nii").write_bytes(b"no NIfTI")
    Image.new("RGB", (64, 64), "pink").save(tmp_path / "tile.png")
    assert run(*arguments) == 2
    *remarks, told = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("warning: ") for line in remarks)
    assert told.endswith(flag)
    assert told.count("--") == flag.count("--")
