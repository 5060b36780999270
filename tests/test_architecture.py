"""Laws of the house that no linter holds: how rooms are cut, what every file looks like, what no file may contain.

Two allow-lists may only shrink, tests/literals.txt and tests/dictionaries.txt; after a change that shrinks them, write
them anew with `python tests/house.py`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import house
import pytest
from places import ROOT, TESTS

SOURCE = ("cmssd_core", "dashboard", "pages")
PYTHON = (*SOURCE, "tests", "benchmarks", "experiments", ".ci")
LONGEST = 400  # lines of a file
FULLEST, LARGEST = 16, 2600  # files and lines of a room
HALL = {"types", "config", "batches", "cli"}

#: `__init__.py` files that are THE table of their package; all others are empty.
TABLES = {"cmssd_core/models/__init__.py"}

#: Files that only one other room uses and that stay all the same; a room's name stands for all its files.
SHARED = {
    "blocks": "what two models share lies here and not with either",
    "evaluation": "pure numbers, whoever asks first",
    "report": "draws nouns, and every noun is drawn for the room that makes it",
    "inference.tile_head": "answers from weights, as the rest of inference does; studies only scores it",
    "profile.prepare": "a row of the table of modalities",
    "volume.read": "a row of the table of modalities",
    "tables": "the door of any table, whoever reads one first",
    "tasks.scoring": "what a task's answer is worth, beside what it is",
}
#: Run by hand: python -m cmssd_core.synthetic.demo.
PROGRAMS = {"cmssd_core.cli", "cmssd_core.synthetic.demo"}

#: Tests named by a theme that no one file is about. Contracts and browsers are about no room.
THEMES = {
    "audit/test_quartet": "four models and what the audit says of them",
    "cases/test_real_data": "from bytes to a prepared case, on real images",
    "commands/test_start_up": "what a command imports before it answers",
    "experiments/test_scripts": "every script of experiments and benchmarks",
    "explain/test_cases": "every method on a case of every kind",
    "models/test_baselines": "the four models the paper compares",
    "pages/test_contract": "every page with a model that answers something else",
    "pages/test_pages": "what all pages have in common",
    "slide/test_awkward": "files a hospital sends and no one would make",
    "volume/test_awkward": "files a hospital sends and no one would make",
}
ROOMLESS = {"contract", "browser"}

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


# 1 to 3: rooms


def test_the_hall_holds_nouns_settings_batches_and_the_command_line() -> None:
    assert {path.stem for path in (ROOT / "cmssd_core").glob("*.py")} - {"__init__"} == HALL


def test_no_room_is_larger_than_one_can_know() -> None:
    """A room parted by thought counts part by part: audit and audit/gates, volume and volume/dicom."""
    lines: dict[str, list[int]] = {}
    for module, path in house.modules().items():
        text = path.read_text(encoding="utf-8")
        if module.startswith("cmssd_core.") and text.strip():
            lines.setdefault(house.folder(module), []).append(len(text.splitlines()))
    sizes = {room: (len(files), sum(files)) for room, files in lines.items()}
    assert {room: size for room, size in sizes.items() if size[0] > FULLEST or size[1] > LARGEST} == {}


def test_a_file_lives_with_its_users() -> None:
    """Used by one other room alone, it moves there. Doors (commands, dashboard) only ask, so nothing moves to them."""
    doors = {"commands", "cli", "dashboard", "pages"}
    lonely = set()
    for module, path in house.modules().items():
        if not module.startswith("cmssd_core.") or path.name == "__init__.py" or house.room(module) in HALL | doors:
            continue
        rooms = {house.room(user) for user in house.users(module)}
        if (not rooms and module not in PROGRAMS) or (len(rooms) == 1 and not rooms & {house.room(module), *doors}):
            lonely.add(module.removeprefix("cmssd_core."))
    unexplained = {module for module in lonely if not {module, module.split(".")[0]} & set(SHARED)}
    assert unexplained == set(), "move them to the room that uses them, or say in SHARED why they stay"
    needed = lonely | {module.split(".")[0] for module in lonely}
    assert set(SHARED) - needed == set(), "no longer used by one other room alone; take them off SHARED"


# 4: imports, the lazy ones and those by a string too


def test_rooms_import_downward_only_whatever_the_kind_of_import() -> None:
    floors = house.floors()
    rising = {
        f"{module} -> {used}"
        for module, others in house.graph().items()
        for used in others
        if module.startswith("cmssd_core.") and used.startswith("cmssd_core.")
        if house.room(module) != house.room(used) and floors[house.room(used)] >= floors[house.room(module)]
    }
    assert rising == set()


def test_packages_import_downward_only_whatever_the_kind_of_import() -> None:
    order = {"cmssd_core": 0, "dashboard": 1, "pages": 2}
    rising = {
        f"{module} -> {used}"
        for module, others in house.graph().items()
        for used in others
        if order[used.split(".")[0]] > order[module.split(".")[0]]
    }
    assert rising == set()


def test_neither_rooms_nor_files_go_round_in_circles() -> None:
    assert house.circle(house.rooms()) is None
    assert house.circle({module: set(used) for module, used in house.graph().items()}) is None


def test_an_import_is_seen_wherever_and_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text(
        "import cmssd_core.config\n"
        "from cmssd_core.machine import store\n"
        "LAZY = {'audit': 'cmssd_core.audit.run:audit'}\n"
        "def one():\n"
        "    from cmssd_core.types import Case\n"
        "    import_module('cmssd_core.report.notebook')\n"
        "    Popen([python, '-m', 'cmssd_core.cli'])\n",
        encoding="utf-8",
    )
    names = {"config", "machine.store", "audit.run", "types", "report.notebook"}
    assert house.imports(path) == {f"cmssd_core.{name}" for name in names}
    assert house.circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


# 5 and 6: allow-lists that may only shrink


@pytest.mark.parametrize("listed", sorted(house.LISTS))
def test_an_allow_list_is_the_truth_and_may_only_shrink(listed: str) -> None:
    """literals.txt: words of one modality, contrast or task outside their room, the tables, models and doors.
    dictionaries.txt: public functions that hand a record out of their room as a dictionary.
    """
    found, allowed = house.LISTS[listed](), house.allowed(listed)
    more = {path: (n, allowed.get(path, 0)) for path, n in found.items() if n > allowed.get(path, 0)}
    assert more == {}, "found, allowed: ask the table, or give a dataclass"
    assert found == allowed, f"{listed} allows more than there is: python tests/house.py"


def test_every_row_of_the_tables_is_a_word_that_is_watched() -> None:
    from cmssd_core.cases.modalities import MODALITIES
    from cmssd_core.volume.contrasts import CONTRASTS

    assert set(MODALITIES) <= house.MODALITY_WORDS
    assert set(CONTRASTS) <= house.CONTRAST_WORDS


def test_words_and_records_are_counted_as_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text(
        '"""Reads the mri of a tumour."""\n'
        "MODALITIES = {'mri': 1, 'he': 2}\n"
        "OTHER = {'mri': 1, 'tumour': 'a tumour of the he'}\n"
        "def told(batch) -> dict[str, Any]: return batch['he.patch_mm']\n"
        "def _own() -> dict[str, Any]: return {'help': 't1'}\n"
        "class Case:\n"
        "    def row(self) -> list[dict[str, int | str]]: ...\n"
        "    def masks(self) -> dict[str, Tensor]: ...\n",
        encoding="utf-8",
    )
    assert house.literals(path) == len(["mri", "tumour", "he.patch_mm", "t1"])
    assert house.records(path) == len(["told", "row"])


# 7: tests mirror the rooms, and prose names what is there


@pytest.mark.parametrize("path", [p for p in python_files("tests") if p.name.startswith("test_")], ids=name)
def test_a_test_lies_in_the_room_it_is_about_and_bears_the_name_of_a_file_or_theme(path: Path) -> None:
    room, subject = path.parent.relative_to(TESTS), path.stem.removeprefix("test_")
    if room.parts[:1] and room.parts[0] in ROOMLESS:
        return
    if not room.parts:
        assert subject in HALL | {"architecture", "conftest"}, f"{name(path)} belongs into a room"
        return
    place = next((at for at in (ROOT / "cmssd_core" / room, ROOT / room) if at.is_dir()), None)
    assert place is not None, f"there is no room {room}"
    subjects = {file.stem for file in place.iterdir() if file.suffix == ".py" or (file / "__init__.py").exists()}
    assert subject in subjects or f"{room.as_posix()}/{path.stem}" in THEMES, f"{room} has no {subject}"


def test_every_theme_is_a_test() -> None:
    assert [theme for theme in THEMES if not (TESTS / f"{theme}.py").is_file()] == []


def test_every_file_named_in_prose_exists() -> None:
    """In texts, docstrings, comments and sentences on screen. Not in the changelog, which says what there was."""
    names = frozenset(name(path) for path in tracked())
    texts = [path for path in tracked() if path.suffix in (".md", ".py", ".ipynb") or path.name == "Makefile"]
    missing = {name(p): found for p in texts if p.name != "CHANGELOG.md" and (found := house.missing_names(p, names))}
    assert missing == {}


def test_a_name_in_prose_is_looked_for_by_what_it_ends_with(tmp_path: Path) -> None:
    path = tmp_path / "text.md"
    path.write_text(
        "`volume/read.py`, read.py, cmssd_core/volume, `cmssd_core.volume.read.read`, `python -m cmssd_core.cli`, "
        "gone.py, `mri/read.py`, cmssd_core/mri, `cmssd_core.volume.gone`, `cmssd_core.volume.read.gone`",
        encoding="utf-8",
    )
    gone = {"gone.py", "mri/read.py", "cmssd_core/mri", "cmssd_core.volume.gone", "cmssd_core.volume.read.gone"}
    assert house.missing_names(path, frozenset({"cmssd_core/volume/read.py"})) == gone


# What a file looks like


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


def test_real_data_come_from_the_folder_a_setting_names_and_no_other():
    """CMSSD_TEST_DATA alone says where it lies; .ci/run sets it where a folder lies beside the checkout."""
    beside = ["../" + "shared", '"' + 'shared" / ']
    texts = {name(path): path.read_text(encoding="utf-8", errors="replace") for path in text_files()}
    assert {path for path, text in texts.items() if any(word in text for word in beside)} <= {".ci/run"}


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


@pytest.mark.parametrize("room", ["volume", "slide"])
def test_readers_know_no_transforms(room):
    transforms = {f"cmssd_core.{room}.{verb}" for verb in ("prepare", "stain", "patches", "tissue", "qc")}
    assert not transforms & house.graph()[f"cmssd_core.{room}.read"]


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
    assert not [entry for entry in carried if "cheat" in entry]  # nobody meets such weights by installing


def test_every_setting_is_explained_on_its_page():
    from cmssd_core.config import Settings
    from dashboard.config import DashboardSettings

    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    fields = [field.upper() for kind in (Settings, DashboardSettings) for field in kind.model_fields]
    assert [f"CMSSD_{field}" for field in fields if f"`CMSSD_{field}`" not in page] == []
