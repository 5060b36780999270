"""The house as its files say it: rooms, their imports (lazy ones and those by a string too), words that spread.

`python tests/house.py` writes tests/literals.txt and tests/dictionaries.txt anew and refuses where their sum grew;
`python tests/house.py --grow` writes them all the same, for instance after a table got a row.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from places import ROOT, TESTS

PACKAGES = ("cmssd_core", "dashboard", "pages")
CORE = "cmssd_core"
_NAME = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+(?::\w+)?")


@cache
def modules() -> dict[str, Path]:
    """Every module of the packages by its full name; a package by its `__init__.py`."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def room(module: str) -> str:
    """The room a module lies in: "volume" for cmssd_core.volume.dicom.series, "types" for cmssd_core.types.

    Outside the core a whole package is one room.
    """
    parts = module.split(".")
    return parts[1] if parts[0] == CORE and len(parts) > 1 else parts[0]


def folder(module: str) -> str:
    """The folder of a file in the core, "audit/gates" for cmssd_core.audit.gates.verdict; "" for the hall."""
    return modules()[module].parent.relative_to(ROOT / CORE).as_posix().replace(".", "", 1)


def resolve(name: str) -> str | None:
    """The module that a dotted name lies in, or None where it is none of the house's."""
    while name:
        if name in modules():
            return name
        name = name.rpartition(".")[0]
    return None


def imports(path: Path) -> set[str]:
    """Modules of the house that a file imports: at its head, inside functions, and by a string.

    A string counts where it is a module's name or its attribute ("cmssd_core.cli", "cmssd_core.cli:main"): a table of
    lazy imports hides no arrow. Not after "-m", which starts a process of its own.
    """
    names: set[str] = set()
    processes = {
        id(after)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.List | ast.Tuple)
        for flag, after in zip(node.elts, node.elts[1:], strict=False)
        if isinstance(flag, ast.Constant) and flag.value == "-m"
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively, which nothing here does"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and id(node) not in processes and _NAME.fullmatch(str(node.value)):
            names.add(str(node.value).replace(":", "."))
    return {module for name in names if (module := resolve(name)) is not None}


@cache
def graph() -> dict[str, frozenset[str]]:
    """What every module imports of the house, itself left out."""
    return {name: frozenset(imports(path) - {name}) for name, path in modules().items()}


def users(module: str) -> set[str]:
    """The modules that import this one."""
    return {name for name, used in graph().items() if module in used}


def circle(arrows: dict[str, set[str]]) -> list[str] | None:
    """One circle among the arrows, first node again at its end; None where there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for onward in sorted(arrows.get(node, ())):
            if found := walk(onward, [*path, node]):
                return found
        done.add(node)
        return None

    return next((found for node in sorted(arrows) if (found := walk(node, []))), None)


def rooms() -> dict[str, set[str]]:
    """Arrows between the rooms of the core."""
    arrows: dict[str, set[str]] = {}
    for module, used in graph().items():
        if module.split(".")[0] == CORE and module != CORE:
            arrows.setdefault(room(module), set()).update(room(other) for other in used if other.startswith(CORE + "."))
    return {name: others - {name} for name, others in arrows.items()}


def floors() -> dict[str, int]:
    """The floor of every room by pyproject.toml, 0 the ground; rooms on one floor are strangers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(
        contract["layers"] for contract in project["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == [CORE]
    )  # fmt: skip
    return {name.strip(" ()"): floor for floor, layer in enumerate(reversed(layers)) for name in layer.split("|")}


# Rule 5: words of one modality, contrast or task

MODALITY_WORDS = {"mri", "he", "rna"}
CONTRAST_WORDS = {"t1", "t1ce", "t2", "flair", "stir", "adc", "ct", "pet"}
TASK_WORDS = {"tumour", "bone", "lesion", "destruction", "malignant", "severity", "severity_pct", "risk"}
#: Where such a word is at home: rooms of the core, and packages.
HOMES = {"volume", "slide", "profile", "tasks", "models", "synthetic", "commands", "cli", "pages"}
#: Files that are a table with the functions of its rows: what differs by modality stands there.
TABLE_FILES = {"cmssd_core.cases.modalities", "cmssd_core.cases.tensors", "cmssd_core.training.draws"}
#: Dictionaries whose keys are these words on purpose: a row of them is what an addition costs.
WORD_TABLES = {"MODALITIES", "CONTRASTS", "TASKS", "METRICS", "DRAWS", "FILLS", "PLACES", "FIELDS", "EXPORTS",
               "TITLES", "FORMATS", "MEANINGS", "BLANKS", "BASELINES"}  # fmt: skip


def literals(path: Path) -> int:
    """How many strings of a file name a modality, a contrast or a task: "mri", "he.patch_mm", "mri_t1", "malignant".

    Docstrings and sentences do not count, nor do the keys of a table in WORD_TABLES.
    """
    body = tree(path)
    rows = {
        id(key)
        for node in body.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id in WORD_TABLES
        for key in node.value.keys
    }
    strings = (n for n in ast.walk(body) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    texts = [n.value for n in strings if id(n) not in rows]
    return sum(_names_one(text) for text in texts)


def _names_one(text: str) -> bool:
    if not re.fullmatch(r"[a-z0-9_.]+", text):
        return False
    return text in TASK_WORDS or bool((MODALITY_WORDS | CONTRAST_WORDS) & set(re.split(r"[._]", text)))


def spread_literals() -> dict[str, int]:
    """Files outside of HOMES and how many literals they hold; files with none are left out."""
    return _counted(
        literals,
        lambda module: not {room(module), module.split(".")[0], module} & (HOMES | TABLE_FILES),
    )


# Rule 6: records that leave a room as a dictionary

DOORS = {"commands", "cli"}
_RECORD = re.compile(r"(?:dict|Mapping)\[str, (?:Any|object|[^\[\]]*\|[^\[\]]*)\]")


def records(path: Path) -> int:
    """How many public functions and methods give a dictionary of mixed values: a record that should be a dataclass."""
    return sum(
        bool(_RECORD.search(ast.unparse(function.returns)))
        for owner in [tree(path), *(n for n in tree(path).body if isinstance(n, ast.ClassDef) and n.name[0] != "_")]
        for function in owner.body
        if isinstance(function, ast.FunctionDef) and function.name[0] != "_" and function.returns is not None
    )


def leaving_dictionaries() -> dict[str, int]:
    """Files of the core, its doors left out, and how many such functions they have."""
    return _counted(records, lambda module: module.startswith(f"{CORE}.") and room(module) not in DOORS)


def _counted(count: Callable[[Path], int], chosen: Callable[[str], bool]) -> dict[str, int]:
    counts = {p.relative_to(ROOT).as_posix(): count(p) for module, p in modules().items() if chosen(module)}
    return {name: n for name, n in sorted(counts.items()) if n}


#: The allow-lists, which may only shrink, and how each is counted.
LISTS = {"literals.txt": spread_literals, "dictionaries.txt": leaving_dictionaries}


def allowed(name: str) -> dict[str, int]:
    """An allow-list of tests/: count by file."""
    lines = (TESTS / name).read_text(encoding="utf-8").splitlines()
    return {path: int(count) for count, path in (line.split() for line in lines)}


def main() -> None:
    """Write the allow-lists anew. Exit status 1 where a sum grew and --grow was not said."""
    for name, count in LISTS.items():
        counts, path = count(), TESTS / name
        before = sum(allowed(name).values()) if path.exists() else None
        after = sum(counts.values())
        if before is not None and after > before and "--grow" not in sys.argv[1:]:
            raise SystemExit(f"{name} would grow from {before} to {after}; it may only shrink (or say --grow)")
        path.write_text("".join(f"{n:>3} {file}\n" for file, n in counts.items()), encoding="utf-8")
        print(f"{name}: {after} in {len(counts)} files, {'new' if before is None else f'{before} before'}")


# Rule 7: files named in prose

_FILE = re.compile(r"(?<![\w/.*~-])((?:[\w-]+/)*[\w-]+\.(?:py|md|ipynb|m?js))(?![\w/])")
_FOLDER = re.compile(
    r"(?<![\w/.-])((?:cmssd_core|dashboard|pages|benchmarks|experiments|tests|docs|notebooks)/[\w./-]*\w)(?![\w/*])"
)
_DOTTED = re.compile(r"(?<![\w./-])((?:cmssd_core|dashboard|benchmarks|experiments)(?:\.\w+)+)(?![\w/])")
#: What a run writes, what a guide has one write, what is built, and a program's name.
_NO_FILES = ("model_card.md", "small_map.py", "Node.js", "dashboard/viewers/static")


def prose(path: Path) -> Iterator[str]:
    """What a file says in words: all of a text, docstrings and comments of a program (sentences in the product too)."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield text
        return
    product = path.relative_to(ROOT).parts[0] in PACKAGES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
        elif product and isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def missing_names(path: Path, tracked: frozenset[str]) -> set[str]:
    """Files, folders and modules that a file's prose names and that are not there. tracked: paths from the root."""
    ends = {"/".join(parts[i:]) for name in tracked for parts in [name.split("/")] for i in range(len(parts))}
    folders = {"/".join(parts[:i]) for name in tracked for parts in [name.split("/")] for i in range(1, len(parts))}
    missing: set[str] = set()
    for text in prose(path):
        missing |= {name for name in _FILE.findall(text) if name not in ends}
        missing |= {name for name in _FOLDER.findall(text) if name not in tracked | folders}
        missing |= {name for name in _DOTTED.findall(text) if name not in ends and not _is_there(name)}
    return {name for name in missing if not name.startswith(_NO_FILES)}


def _is_there(name: str) -> bool:
    """Whether a dotted name is a module, or what one defines: cmssd_core.cohort.table.read."""
    module, _, attribute = name, "", ""
    while module:
        folder = ROOT / module.replace(".", "/")
        path = next((p for p in (folder.with_suffix(".py"), folder / "__init__.py") if p.is_file()), None)
        if path is not None or folder.is_dir():
            return not attribute or (path is not None and attribute in _defined(path))
        module, _, last = module.rpartition(".")
        attribute = last
    return False


@cache
def _defined(path: Path) -> set[str]:
    names: set[str] = set()
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


if __name__ == "__main__":
    main()
