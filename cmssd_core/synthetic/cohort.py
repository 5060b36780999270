"""A synthetic cohort on disk, file for file as a user's would be: NIfTI, pyramidal TIFF, masks, GeoJSON, tables.

Each case is drawn from generators seeded by (cohort seed, case number) and lands by a rename, so a run that was killed
goes on where it stopped and gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from cmssd_core.cohort.split import split_by_patient
from cmssd_core.cohort.table import COLUMNS, write_table
from cmssd_core.machine.atomic import claim, write_atomic
from cmssd_core.machine.workers import pool
from cmssd_core.synthetic.case import EXTRA_COLUMNS, latent_of, name_of, person_of, write_case
from cmssd_core.synthetic.oracles import READERS, oracles, p_malignant
from cmssd_core.synthetic.settings import SynthSettings, check
from cmssd_core.types import InputError

__all__ = ["SynthSettings", "write"]


def write(
    out: Path, *, settings: SynthSettings, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the cohort into `out` and give the path of its cohort.csv.

    Beside it: synth.json with the settings and the oracles' figures, oracle.csv with the oracles' answer to each case.
    Raises InputError for settings that cannot be, workers < 1, and where `out` cannot be written to or holds a cohort
    made with other settings, or where another process writes one.
    """
    check(settings)
    if workers < 1:
        raise InputError(f"{workers} workers came, expected at least 1; give more", "workers")
    _make_folder(out)
    with claim(out):
        _state(out, settings)
        todo = [n for n in range(settings.cases) if not (out / "cases" / name_of(n) / "case.json").exists()]
        for done, _ in enumerate(_written(out, todo, settings, workers), settings.cases - len(todo) + 1):
            if progress:
                progress(done, settings.cases)
        for left in (out / "cases").glob(".*"):  # what a killed run was writing; its case has since been written anew
            shutil.rmtree(left, ignore_errors=True)
        write_tables(out, settings=settings)
    return out / "cohort.csv"


def _written(out: Path, todo: list[int], settings: SynthSettings, workers: int) -> Iterator[None]:
    """Writes the cases, and gives a turn to tell of each."""
    count = min(workers, len(todo))
    if count <= 1:
        for number in todo:
            write_case(out, number, settings)
            yield None
        return
    with pool(count, network=False) as processes:
        yield from processes.map(write_case, [out] * len(todo), todo, [settings] * len(todo), chunksize=4)


def write_tables(out: Path, *, settings: SynthSettings) -> None:
    """Write cohort.csv, oracle.csv and synth.json from the cases that lie in `out`."""
    numbers = range(settings.cases)
    rows = [json.loads((out / "cases" / name_of(n) / "case.json").read_text(encoding="utf-8")) for n in numbers]
    extra = [column for column in EXTRA_COLUMNS if any(row[column] is not None for row in rows)]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *extra])
    for column in ("event", *(c for c in extra if c == "trap")):
        table[column] = table[column].astype("Int64")
    table["split"] = settings.split or split_by_patient(table, seed=settings.seed)
    write_table(table, out / "cohort.csv")
    latents = [latent_of(n, settings=settings) for n in numbers]
    persons = [person_of(n, settings=settings) for n in numbers]
    summary = [p_malignant(latent) for latent in latents]
    answers = {f"p_malignant_{reader}": [round(each[reader], 6) for each in summary] for reader in READERS}
    hazard = [round(who.log_hazard, 6) for who in persons]
    names = [name_of(n) for n in numbers]
    write_table(pd.DataFrame({"case_id": names, **answers, "log_hazard": hazard}), out / "oracle.csv")
    stated = {"settings": asdict(settings), "oracle": oracles(latents, persons)}
    text = json.dumps(stated, indent=1, allow_nan=False)
    write_atomic(out / "synth.json", lambda path: path.write_text(text, encoding="utf-8"))


def _make_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out.name} is a file, expected a folder for the cohort; name another place", "out")
    try:
        (out / "cases").mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"{out} cannot be written to ({problem.strerror}), expected a folder for the cohort; name another place",
            "out",
        ) from None


def _state(out: Path, settings: SynthSettings) -> None:
    """Writes settings.json into the folder, or finds the same one there."""
    stated = out / "settings.json"
    text = json.dumps(asdict(settings), indent=1, allow_nan=False)
    if stated.exists() and stated.read_text(encoding="utf-8") != text:
        raise InputError(f"{out.name} holds a cohort made with other settings; choose an empty folder", "out")
    write_atomic(stated, lambda path: path.write_text(text, encoding="utf-8"))
