"""A law of the whole house: no file that anybody may read later is written in place; a kill would leave half of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from places import ROOT

ROOMS = ("cmssd_core", "dashboard", "pages", "experiments")
#: Functions that write a file by its own name all the same, and why no half of it is read.
ALLOWED = {
    "cmssd_core/machine/doctor.py:_openslide": "in a temporary folder of its own",
    "cmssd_core/machine/fence.py:_save": "in a temporary folder of its own",
    "cmssd_core/machine/fence.py:_wait": "in a temporary folder of its own",
    "cmssd_core/machine/fence.py:main": "in a temporary folder of its own, and half of it is no JSON",
    "cmssd_core/machine/store.py:_write": "in an entry that gets its name when it is whole",
    "cmssd_core/report/attribution_files.py:_npz": "what write_together calls",
    "cmssd_core/report/files.py:_made": "in a folder beside, whose files are then moved in",
    "cmssd_core/report/files.py:_fill": "in a folder beside, whose files are then moved in",
    "cmssd_core/report/files.py:write_nifti": "in a folder beside, or what write_together calls",
    "cmssd_core/studies/jobs.py:_begin": "a log, and blanks that reserve room for how it ended: no JSON until it has",
    "cmssd_core/studies/jobs.py:work": "over the blanks that were reserved, in one write",
    "cmssd_core/synthetic/case.py:_write_volume": "in a case's folder that gets its name when it is whole",
    "cmssd_core/synthetic/case.py:_write_files": "in a case's folder that gets its name when it is whole",
    "cmssd_core/synthetic/case.py:write_case": "in a case's folder that gets its name when it is whole",
    "cmssd_core/synthetic/pyramid.py:write_pyramid": "in a case's folder that gets its name when it is whole",
    "cmssd_core/training/run_folder.py:__init__": "rows of metrics are added; a line that has not ended is none",
    "cmssd_core/volume/archive.py:unpack": "in a temporary folder of its own",
    "dashboard/services/case.py:keep": "in the session's own folder, which ends with it",
    "dashboard/viewers/build.py:build": "a fingerprint: half of it is none, and what it stands for is made anew",
}


#: What writes a file where it is told to; of `open` and `save` only some do.
WRITERS = {
    *("write_text", "write_bytes", "to_csv", "to_parquet", "to_json", "savefig", "save_file", "savez"),
    *("savez_compressed", "WriteImage", "TiffWriter", "imwrite", "json.dump", "shutil.copy", "shutil.copyfile"),
}


def in_place(path: Path) -> set[str]:
    """Functions of a file that write a file by its own name, so that a kill leaves half of it.

    What is handed to write_atomic, a lambda or a function within the function, writes to the name it is given and does
    not count; nor do memory (BytesIO) and a table as text (to_csv without a place).
    """
    found: set[str] = set()

    def visit(node: ast.AST, where: tuple[str, ...], given: set[str], memory: set[str]) -> None:
        if isinstance(node, ast.Lambda) or (isinstance(node, ast.FunctionDef) and where):
            given = given | {argument.arg for argument in node.args.args}
        if isinstance(node, ast.FunctionDef):
            where = (*where, node.name)
            memory = memory | {
                target.id
                for one in ast.walk(node)
                if isinstance(one, ast.Assign) and ast.unparse(one.value).endswith("BytesIO()")
                for target in one.targets
                if isinstance(target, ast.Name)
            }
        if isinstance(node, ast.With):  # a stream was looked at where it was opened
            memory = memory | {ast.unparse(item.optional_vars) for item in node.items if item.optional_vars}
        target = _written(node) if isinstance(node, ast.Call) else None
        if target is not None:
            names = {one.id for one in ast.walk(target) if isinstance(one, ast.Name)}
            if not names & (given | memory):
                found.add(where[0] if where else "<module>")
        for child in ast.iter_child_nodes(node):
            visit(child, where, given, memory)

    visit(ast.parse(path.read_text(encoding="utf-8")), (), set(), set())
    return found


def _written(call: ast.Call) -> ast.expr | None:
    """The expression of the place a call writes to; None where it writes none."""
    called = ast.unparse(call.func)
    last = called.split(".")[-1]
    of = call.func.value if isinstance(call.func, ast.Attribute) else None
    first = call.args[0] if call.args else None
    if last == "open":
        modes = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        words = {one.value for one in modes if isinstance(one, ast.Constant) and isinstance(one.value, str)}
        opens = any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in words)
        return (of if of is not None else first) if opens else None
    if last == "save" and of is not None and not any(keyword.arg == "info" for keyword in call.keywords):
        return first  # of a picture; our own are write_atomic's
    if last == "ZipFile":
        return first if len(call.args) > 1 and ast.unparse(call.args[1]) != "'r'" else None
    if last not in WRITERS and called not in WRITERS:
        return None
    if last in ("write_text", "write_bytes"):
        return of
    return call.args[1] if last in ("save_file", "WriteImage", "dump", "copy", "copyfile") else first


def test_no_file_is_written_in_place() -> None:
    found = {
        f"{path.relative_to(ROOT).as_posix()}:{function}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for function in in_place(path)
    }
    assert found - set(ALLOWED) == set(), "hand it to write_atomic, or say in ALLOWED why no half of it is read"
    assert set(ALLOWED) - found == set(), "no longer in place; take them off ALLOWED"


@pytest.mark.parametrize(
    "words",
    [
        'path.write_text("x")', "open(path, 'w').write('x')", "path.open(mode='ab')", "table.to_csv(path)",
        "json.dump({}, stream(path))", "Image.fromarray(a).save(path)", "save_file({}, path)", "np.savez(path, a=a)",
        "sitk.WriteImage(image, str(path))", "shutil.copy(a, path)", "zipfile.ZipFile(path, 'w')",
        "path.open('r+b')",
    ],
)  # fmt: skip
def test_every_way_to_write_in_place_is_seen(words: str, tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(f"def f(path):\n    {words}\n", encoding="utf-8")
    assert in_place(file) == {"f"}


def test_what_is_handed_on_or_read_or_kept_in_memory_is_not_in_place(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(
        "def f(path, table):\n"
        "    write_atomic(path, lambda part: part.write_text('x'))\n"
        "    def write(part):\n"
        "        with part.open('wb') as stream:\n"
        "            np.savez(stream, a=1)\n"
        "    write_atomic(path, write)\n"
        "    held = BytesIO()\n"
        "    picture.save(held, 'PNG')\n"
        "    return table.to_csv(index=False), open(path), path.open('rb'), zipfile.ZipFile(path)\n",
        encoding="utf-8",
    )
    assert in_place(file) == set()
