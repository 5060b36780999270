"""A folder or a table of H&E tiles becomes a cohort."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.leakage import BESIDE
from cmssd_core.tables.grid import read_grid
from cmssd_core.tables.headers import letters
from cmssd_core.tables.ids import joined, named_patient
from cmssd_core.tables.read import Table, first, no_ids, read_table
from cmssd_core.types import InputError

CLASSES = ("non_tumor", "non_viable", "viable")


SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


#: A class by what is left of a word when only its letters are kept; necrotic tumour is tumour that is not viable.
CLASS_OF = {
    **dict.fromkeys(("nontumor", "nontumour", "normal"), "non_tumor"),
    **dict.fromkeys(("nonviabletumor", "nonviabletumour", "nonviable", "necrotic", "necrosis"), "non_viable"),
    **dict.fromkeys(("viabletumor", "viabletumour", "viable"), "viable"),
}


#: What a table of other people may call our columns, letters and digits alone.
NAMES = {
    "slide": ("slide", "tile", "image", "imagename", "file", "filename", "path"),
    "tissue_class": ("tissueclass", "class", "classification", "label"),
    "patient_id": ("patientid", "patient", "case"),
    "slide_mpp": ("slidempp", "mpp"),
    "split": ("split",),
}


def class_of(text: str, *, whole: bool = False) -> str | None:
    """The tissue class a file's name begins with, or (whole) a cell says and nothing else; None where there is none."""
    letters = re.sub(r"[^a-z]", "", text.lower())
    if whole:
        return CLASS_OF.get(letters)
    return next((CLASS_OF[word] for word in sorted(CLASS_OF, key=len, reverse=True) if letters.startswith(word)), None)


def find_tiles(source: Path, *, mpp: float | None = None) -> tuple[pd.DataFrame, Path]:
    """A cohort (all columns of `cohort.COLUMNS`) of H&E tiles, and the folder its paths are relative to.

    source: a folder of images whose names, or whose folders' names, begin with the class ("Viable___Case-3-....jpg"),
    or a CSV with columns for image, class and, if known, patient and mpp (see NAMES), paths relative to it. The patient
    is the one that a name, else a folder's name, says (sub-01, a TCGA barcode, "Case-N", else "PN"; Case3, Case-3 and
    case_03 are one); a tile that says none is a patient by itself. mpp: for tiles that do not say theirs. Raises
    InputError where a tile has no class, a cell is no id or no number, or no tile is found.
    """
    if source.is_file():
        table, root = _from_table(source), source.parent
    elif source.is_dir():
        table, root = _from_names(source), source
    else:
        raise InputError(f"there is no {source.name}; expected a folder of tiles or a CSV; check the path")
    table["case_id"] = [cohorts.name_of(name) for name in table["slide"]]
    if table["case_id"].duplicated().any():
        table["case_id"] = [cohorts.name_of(name.replace("/", "-")) for name in table["slide"]]
    guess = joined(_patient(name) or case for name, case in zip(table["slide"], table["case_id"], strict=True))
    known = table["patient_id"] if "patient_id" in table else pd.Series(None, table.index, dtype=object)
    table["patient_id"] = known.astype(object).where(known.notna(), guess)
    if mpp is not None:
        table["slide_mpp"] = table["slide_mpp"].fillna(mpp) if "slide_mpp" in table else mpp
    if "slide_mpp" not in table or table["slide_mpp"].isna().any():
        raise InputError(
            "tiles say no microns per pixel; say them: 1.0 is usual for 10x, 0.5 for 20x, 0.25 for 40x", "mpp"
        )
    return table.reindex(columns=list(cohorts.COLUMNS)), root


def read_cells(path: Path) -> Table:
    """The cells of a table of tiles under our names. Raises InputError where it is no table."""
    return read_table(path, known=NAMES, ids=("patient_id",), numbers=("slide_mpp",))


def patients_in(folder: Path) -> list[str | None]:
    """Who each tile below a folder is of, by its name, else by the nearest folder's; None where none is said."""
    return [_patient(str(path.relative_to(folder))) for path in _images(folder)]


def are_tiles(source: Path) -> bool:
    """Whether a source is a folder of tiles or a table of them, and no cohort of cases."""
    if source.is_dir():
        if (source / "cohort.csv").is_file():
            return are_tiles(source / "cohort.csv")
        return any(_is_image(path) for path in source.rglob("*"))
    try:
        summary = {letters(name) for name in read_grid(source).cells.dropna(axis=1, how="all").columns}
    except InputError:
        return False
    of_cases = set(cohorts.MRI_COLUMNS) | set(cohorts.MASK_COLUMNS) | {"malignant", "severity_pct"}
    return all(summary & set(NAMES[ours]) for ours in ("slide", "tissue_class")) and not {
        letters(column) for column in of_cases
    } & set(summary)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_image(path) and path.is_file())


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(BESIDE)


def _patient(name: str) -> str | None:
    parts = (Path(name).name, *reversed(Path(name).parts[:-1]))
    return next((who[0] for part in parts if (who := named_patient(part, weak=True))), None)


def _from_names(folder: Path) -> pd.DataFrame:
    found = [path.relative_to(folder) for path in _images(folder)]
    if not found:
        raise InputError(f"{folder.name} holds no tiles ({', '.join(SUFFIXES)}); check the path")
    rows = [(str(name), class_of(name.name) or class_of(name.parent.name)) for name in found]
    for name in found:
        _refuse_two_classes(name)
    unsaid = [name for name, words in rows if words is None]
    if unsaid:
        raise InputError(
            f"{unsaid[0]} ({len(unsaid)} of {len(rows)} tiles) says no class; expected a name or folder that begins "
            "with Non-Tumor, Non-Viable or Viable; rename them, or give a CSV with columns slide and tissue_class"
        )
    return pd.DataFrame(rows, columns=["slide", "tissue_class"])


def _refuse_two_classes(name: Path) -> None:
    """Refuses a tile whose name says another class than its folder's; a folder named for several classes says none."""
    words = re.sub(r"[^a-z]", "", name.parent.name.lower())
    among = {CLASS_OF[word] for word in re.findall("|".join(sorted(CLASS_OF, key=len, reverse=True)), words)}
    own, folders = class_of(name.name), class_of(name.parent.name)
    if own is not None and folders is not None and own != folders and len(among) == 1:
        raise InputError(
            f"{name} says {own} by its name and {folders} by its folder, {name.parent.name}; expected one class; move "
            "or rename it"
        )


def _refuse_twice(table: pd.DataFrame, root: Path, read: Table, path: Path) -> None:
    """Refuses a picture that two rows name, under whatever words; two classes of one picture are no truth."""
    seen: dict[str, int] = {}
    for row, name, text in zip(table.index + 2, table["slide"], table["tissue_class"], strict=True):
        first_row = seen.setdefault(os.path.realpath(root / name), row)
        if first_row != row:
            was = table["tissue_class"][first_row - 2]
            raise InputError(
                f"{path.name}, rows {first_row} and {row}, column {read.written['slide']}: both name {name}, the first "
                f"as {was}, the second as {text}; expected one row a tile; remove one"
            )


def _from_table(path: Path) -> pd.DataFrame:
    read = read_cells(path)
    for ours in ("slide", "tissue_class"):
        if ours not in read.written:
            raise InputError(f"{path.name} has no column {ours} (nor {', '.join(NAMES[ours][1:])}); add it")
    table = read.cells[list(read.written)].copy()
    if table.empty:
        raise InputError(f"{path.name} has no row of a tile; expected one row a tile; add them")
    below: dict[str, list[str]] = defaultdict(list)
    for found in sorted(p for p in path.parent.rglob("*") if _is_image(p)):
        below[found.stem].append(str(found.relative_to(path.parent)))
    files = []
    for row, name, text in zip(table.index + 2, table["slide"], table["tissue_class"], strict=True):
        named = [] if pd.isna(name) else _named(name, path.parent, below)
        if not named:
            raise InputError(f"{path.name}, row {row}, column slide: no file {name}; mend the path")
        if len(named) > 1:
            raise InputError(
                f"{path.name}, row {row}, column slide: {name} is {named[0]} and {named[1]}, expected one file; name "
                "it with its folder and ending"
            )
        if pd.isna(text) or class_of(text, whole=True) is None:
            raise InputError(
                f"{path.name}, row {row}: class {text!r} came, expected one of {', '.join(CLASSES)}; mend it"
            )
        files.append(named[0])
    table["slide"] = files
    table["tissue_class"] = [class_of(text, whole=True) for text in table["tissue_class"]]
    _refuse_twice(table, path.parent, read, path)
    if "slide_mpp" in table:
        low, high, expected = cohorts.NUMBERS["slide_mpp"]
        number = pd.to_numeric(table["slide_mpp"], errors="coerce").astype(float)
        _refuse(table["slide_mpp"], ~(number.between(low, high) & np.isfinite(number)), read, path, expected)
        table["slide_mpp"] = number
    if "patient_id" in table:
        _refuse(table["patient_id"], no_ids(table["patient_id"]), read, path, "a patient's id, or nothing")
    return table.reset_index(drop=True)


def _refuse(column: pd.Series[str], wrong: pd.Series[bool], read: Table, path: Path, expected: str) -> None:
    """Raise InputError for the first cell that is there and wrong."""
    wrong = wrong & column.notna()
    if wrong.any():
        raise InputError(
            f"{path.name}, row {first(wrong)}, column {read.written[str(column.name)]}: "
            f"{str(column[wrong].iloc[0])!r} came, expected {expected}; mend the cell or empty it"
        )


def _named(name: str, root: Path, below: Mapping[str, list[str]]) -> list[str]:
    """The files a cell may mean; below: stem -> files. Lists of tiles often name them without folder or ending."""
    if os.path.isfile(os.path.join(root, name)):  # Path.is_file raises for a name that is too long
        return [name]
    alike = below.get(name) or below.get(Path(name).stem) or []
    return [file for file in alike if Path(file).name == Path(name).name] or alike
