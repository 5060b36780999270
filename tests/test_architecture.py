"""Laws of the house that no linter holds: what every file looks like, and what no file may contain."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ("cmssd_core", "dashboard", "pages")
PYTHON = (*SOURCE, "tests", "benchmarks", ".ci")
LONGEST = 400  # lines

#: `__init__.py` files that are THE table of their package; all others are empty.
TABLES = {"cmssd_core/models/__init__.py"}

# Put together here so that this file does not contain what it forbids.
ADDRESSES = [
    *("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "download.py" + "torch.org"),
    *("yarn" + "pkg.com", "conda." + "anaconda.org", "--index" + "-url", "--find" + "-links"),
]
MACHINE = ["/" + "work/", "/" + "root/", "/opt/" + "pypi", "/opt/" + "wheels", "/" + "Users/"]
BINARY = {".png", ".jpg", ".gz", ".safetensors", ".npz", ".tif", ".tiff", ".svs", ".dcm", ".parquet", ".pdf", ".woff2"}


@cache
def tracked() -> tuple[Path, ...]:
    """Files under version control, or, in an unpacked archive, all that are not made by a tool."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
        paths = [ROOT / name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        made = {".git", ".venv", ".demo", "node_modules", "build", "dist", "runs", "__pycache__"}
        made |= {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache"}
        paths = [path for path in ROOT.rglob("*") if not made & set(path.relative_to(ROOT).parts)]
    return tuple(sorted(path for path in paths if path.is_file()))


def python_files(*rooms: str) -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in rooms]


def text_files() -> list[Path]:
    return [path for path in tracked() if path.suffix.lower() not in BINARY]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Full names of what an import may load: `from a import b` may load a or a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]


@pytest.mark.parametrize("path", python_files(*PYTHON), ids=name)
def test_every_file_says_its_one_thought_in_its_first_line(path):
    text = path.read_text(encoding="utf-8")
    if path.name == "__init__.py" and not text.strip():
        return
    assert text.startswith('"""'), f"{name(path)} does not begin with a docstring"
    first = ast.get_docstring(ast.parse(text), clean=False)
    assert first is not None
    assert first.splitlines()[0].strip(), f"the first line of {name(path)} is empty"


@pytest.mark.parametrize("path", python_files(*SOURCE), ids=name)
def test_no_file_is_longer_than_one_can_read(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{name(path)} has {lines} lines; part it by thought"


@pytest.mark.parametrize("path", [p for p in python_files(*SOURCE) if p.name == "__init__.py"], ids=name)
def test_init_files_are_empty_unless_they_are_the_table(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    if name(path) in TABLES:
        allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef)
        assert all(isinstance(node, allowed) for node in body), f"{name(path)} does more than hold a table"
    else:
        assert all(isinstance(node, ast.Expr) for node in body), f"{name(path)} holds code; give it a file"


def test_no_tracked_file_names_a_registry_or_a_machine():
    found = [
        f"{name(path)}: {word}"
        for path in text_files()
        for text in [path.read_text(encoding="utf-8", errors="replace")]
        for word in (*ADDRESSES, *MACHINE)
        if word in text
    ]
    assert found == []


@pytest.mark.parametrize("path", python_files(*SOURCE), ids=name)
def test_nothing_kept_is_a_pickle(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    forbidden = {"pickle", "cPickle", "dill", "joblib", "shelve", "cloudpickle", "marshal"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            kept = {module.split(".")[0] for module in modules(node)} & forbidden
            assert not kept, f"{name(path)}:{node.lineno} imports {kept}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called == "torch.load":
            assert settings.get("weights_only") == "True", f"{name(path)}:{node.lineno} loads a pickle"
        if called in ("np.load", "numpy.load"):
            assert settings.get("allow_pickle", "False") == "False", f"{name(path)}:{node.lineno} loads a pickle"
        assert called not in ("torch.save", "pd.read_pickle"), f"{name(path)}:{node.lineno} keeps a pickle"


@pytest.mark.parametrize("room", ["mri", "slide"])
def test_readers_know_no_transforms(room):
    path = ROOT / "cmssd_core" / room / "read.py"
    if not path.is_file():
        pytest.skip(f"{name(path)} is not there yet")
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    transforms = {f"cmssd_core.{room}.{verb}" for verb in ("prepare", "stain", "patches", "tissue", "qc")}
    assert not transforms & {module for node in nodes for module in modules(node)}


@pytest.mark.parametrize("path", python_files("dashboard"), ids=name)
def test_no_file_beside_the_entry_script_bears_a_standard_modules_name(path):
    """Streamlit puts the entry script's folder first on sys.path, where such a file would replace Python's own."""
    assert path.stem not in sys.stdlib_module_names


def test_no_room_is_a_junk_room():
    names = {path.stem for path in python_files(*SOURCE)}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_streamlit_caches_live_in_services_alone():
    users = [
        name(path)
        for path in python_files(*SOURCE)
        if "st.cache_" in "".join(ast.unparse(node) for node in ast.parse(path.read_text(encoding="utf-8")).body)
    ]
    assert all(user.startswith("dashboard/services/") for user in users)


def test_the_lock_holds_what_the_project_asks_for():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(text for texts in project["optional-dependencies"].values() for text in texts)]
    for requirement in map(Requirement, asked):
        pinned = pins.get(canonicalize_name(requirement.name))
        assert pinned is not None, f"{requirement} is not in requirements.lock; run make lock"
        assert requirement.specifier.contains(pinned), f"{requirement} is locked to {pinned}; run make lock"
    assert pins["torch"] == "2.13.0"
    assert "opencv-python" not in pins
    assert all(character not in pin for pin in pins.values() for character in "+@; ")


def test_the_wheel_carries_every_file_of_the_packages(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        carried = set(wheel.namelist())
    wanted = {name(path) for path in tracked() if path.relative_to(ROOT).parts[0] in SOURCE}
    assert wanted - carried == set()
    assert {entry.split("/")[0] for entry in carried if ".dist-info/" not in entry} <= set(SOURCE)


def test_every_setting_is_told_in_the_readme():
    from cmssd_core.config import Settings

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [f"CMSSD_{field.upper()}" for field in Settings.model_fields if f"`CMSSD_{field.upper()}`" not in readme]
    assert missing == []
