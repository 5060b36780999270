"""A synthetic cohort on disk, file for file as a user's would be: NIfTI, JPEG, masks, cohort.csv, synth.json.

Each case is drawn from its own generator seeded by (cohort seed, case number) and lands by a rename, so a run that
was killed goes on where it stopped and gives the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from PIL import Image

from cmssd_core.cohort import COLUMNS, SPLITS, split_by_patient, write_table
from cmssd_core.mri.itk import to_image
from cmssd_core.synthetic.centres import SHIFTS, Centre, centre
from cmssd_core.synthetic.histology import section
from cmssd_core.synthetic.latents import PRESETS, Latent, draw, oracles
from cmssd_core.synthetic.phantom import SIGNALS, ScanSettings, scan
from cmssd_core.types import InputError


@dataclass(frozen=True, kw_only=True)
class SynthSettings:
    """What a synthetic cohort is made of; stored in synth.json.

    centres: hospitals the cases come from. shift: one of SHIFTS, how these differ from ordinary ones. slide_px: edge of
    the slide at slide_mpp microns a pixel. split: put every case there; None = 70 / 15 / 15.
    """

    preset: str = "paper"
    cases: int = 600
    seed: int = 1
    centres: int = 8
    shift: str = "none"
    scan: ScanSettings = field(default_factory=ScanSettings)
    slide_px: int = 768
    slide_mpp: float = 1.0
    split: str | None = None


def latent_of(number: int, *, settings: SynthSettings) -> Latent:
    """The latent of case `number`, without drawing its pictures."""
    return draw(settings.preset, np.random.default_rng([settings.seed, number, 0]))


def centre_of(number: int, *, settings: SynthSettings) -> Centre:
    """The hospital of case `number`."""
    which = int(np.random.default_rng([settings.seed, number, 2]).integers(settings.centres))
    return centre(which, seed=settings.seed, shift=settings.shift)


def write(
    out: Path, *, settings: SynthSettings, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the cohort into `out` and give the path of its cohort.csv.

    Raises InputError for an unknown preset, contrast or split, for cases or workers < 1, for a seed < 0, and where
    `out` cannot be written to or holds a cohort made with other settings.
    """
    if settings.preset not in PRESETS:
        raise InputError(f"preset {settings.preset!r} came, expected {' or '.join(PRESETS)}; choose one of these")
    if unknown := set(settings.scan.contrasts) - set(SIGNALS):
        raise InputError(f"contrast {unknown.pop()!r} came, expected some of {', '.join(SIGNALS)}; choose from these")
    if settings.cases < 1:
        raise InputError(f"{settings.cases} cases came, expected at least 1; give --cases N")
    if settings.seed < 0:
        raise InputError(f"seed {settings.seed} came, expected a whole number from 0 on; give --seed N")
    if settings.split is not None and settings.split not in SPLITS:
        raise InputError(f"split {settings.split!r} came, expected one of {', '.join(SPLITS)}; choose one of these")
    if settings.shift not in SHIFTS:
        raise InputError(f"shift {settings.shift!r} came, expected one of {', '.join(SHIFTS)}; choose one of these")
    if settings.centres < 1:
        raise InputError(f"{settings.centres} centres came, expected at least 1; give --centres K")
    if workers < 1:
        raise InputError(f"{workers} workers came, expected at least 1; give --workers N")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out.name} is a file, expected a folder for the cohort; name another place")
    try:
        (out / "cases").mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"{out} cannot be written to ({problem.strerror}), expected a folder for the cohort; name another place"
        ) from None
    stated = out / "settings.json"
    text = json.dumps(asdict(settings), indent=1, allow_nan=False)
    if stated.exists() and stated.read_text() != text:
        raise InputError(f"{out.name} holds a cohort made with other settings; choose an empty folder")
    stated.write_text(text)
    todo = [n for n in range(settings.cases) if not (out / "cases" / name_of(n) / "case.json").exists()]
    done = settings.cases - len(todo)
    with ProcessPoolExecutor(max_workers=workers) as pool:
        for _ in pool.map(_write_case, [out] * len(todo), todo, [settings] * len(todo), chunksize=4):
            done += 1
            if progress:
                progress(done, settings.cases)
    rows = [json.loads((out / "cases" / name_of(n) / "case.json").read_text()) for n in range(settings.cases)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["split"] = settings.split or split_by_patient(table, seed=settings.seed)
    write_table(table, out / "cohort.csv")
    figures = oracles([latent_of(n, settings=settings) for n in range(settings.cases)])
    (out / "synth.json").write_text(
        json.dumps({"settings": asdict(settings), "oracle": figures}, indent=1, allow_nan=False)
    )
    return out / "cohort.csv"


def name_of(number: int) -> str:
    """Folder and case_id of case `number`."""
    return f"synth-{number:05d}"


def _write_case(out: Path, number: int, settings: SynthSettings) -> None:
    latent = latent_of(number, settings=settings)
    rng = np.random.default_rng([settings.seed, number, 1])
    place = centre_of(number, settings=settings)
    body = scan(latent, place, settings=settings.scan, rng=rng)
    slide = section(latent, place, size_px=settings.slide_px, rng=rng, mpp=settings.slide_mpp)
    final = out / "cases" / name_of(number)
    part = out / "cases" / f".{name_of(number)}.{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    relative = f"cases/{name_of(number)}"
    row: dict[str, object] = dict.fromkeys(COLUMNS)
    for contrast, image in body.images.items():
        stored = to_image(np.round(image).astype(np.int16), body.affine)
        sitk.WriteImage(stored, str(part / f"{contrast}.nii.gz"))
        row[f"mri_{contrast}"] = f"{relative}/{contrast}.nii.gz"
    masks = {"tumour_mask": body.tumour, "lesion_mask": body.lesion, "bone_mask": body.bone, "cortical_destruction_mask": body.destruction}
    for column, mask in masks.items():
        sitk.WriteImage(to_image(mask.astype(np.uint8), body.affine), str(part / f"{column}.nii.gz"))
        row[column] = f"{relative}/{column}.nii.gz"
    Image.fromarray(slide.rgb).save(part / "slide.jpg", quality=92, subsampling=0)
    Image.fromarray(slide.osteoid).save(part / "osteoid_mask.png")
    row |= {
        "case_id": name_of(number),
        "patient_id": name_of(number),
        "slide": f"{relative}/slide.jpg",
        "slide_mpp": slide.mpp,
        "osteoid_mask": f"{relative}/osteoid_mask.png",
        "site_x_mm": round(body.site_mm[0], 2),
        "site_y_mm": round(body.site_mm[1], 2),
        "site_z_mm": round(body.site_mm[2], 2),
        "malignant": int(latent.malignant),
        "severity_pct": round(body.severity_pct, 3),
        "age_years": round(latent.age_years, 1),
        "centre": place.name,
        "scanner": place.scanner,
        "field_t": place.field_t,
        "coil": place.coil,
    }
    (part / "case.json").write_text(json.dumps(row, indent=1, allow_nan=False))
    part.rename(final)
