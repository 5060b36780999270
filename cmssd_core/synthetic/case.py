"""One synthetic case: drawn in memory, then written file for file as a user's would be.

Each thing is drawn from a generator of its own, seeded by (cohort seed, case number, STREAMS), so that one option
changes nothing but what it is about: a case without a shortcut, an artefact or a mimic is the exact twin of the same
case with it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from PIL import Image

from cmssd_core.cohort.table import COLUMNS, MRI_COLUMNS
from cmssd_core.slide.outlines import to_geojson
from cmssd_core.synthetic import shortcuts
from cmssd_core.synthetic.artefacts import ARTEFACTS, spoil
from cmssd_core.synthetic.centres import Centre, centre
from cmssd_core.synthetic.histology import Section, section
from cmssd_core.synthetic.latents import Latent, draw
from cmssd_core.synthetic.mimics import draw_mimics
from cmssd_core.synthetic.person import Person, expression, person
from cmssd_core.synthetic.phantom import Scan, scan
from cmssd_core.synthetic.pyramid import write_pyramid
from cmssd_core.synthetic.settings import SynthSettings
from cmssd_core.types import BoolArray
from cmssd_core.volume.contrasts import CONTRASTS
from cmssd_core.volume.itk import to_image

STREAMS = {
    "latent": 0, "pictures": 1, "centre": 2, "mimics": 3, "artefact": 4, "shortcut": 5, "person": 6, "genes": 8,
}  # fmt: skip
#: Columns beside cohort.csv's own, written only where a case of the cohort has them.
EXTRA_COLUMNS = ("slide_artefact", "slide_artefact_mask", "trap", "trap_mask", "trap_slide_mask")


def stream(what: str, number: int, *, settings: SynthSettings) -> np.random.Generator:
    """The generator of one thing (a key of STREAMS) of case `number`."""
    return np.random.default_rng([settings.seed, number, STREAMS[what]])


def name_of(number: int) -> str:
    """Folder and case_id of case `number`."""
    return f"synth-{number:05d}"


def latent_of(number: int, *, settings: SynthSettings) -> Latent:
    """The latent of case `number`, without drawing its pictures."""
    return draw(settings.preset, stream("latent", number, settings=settings))


def person_of(number: int, *, settings: SynthSettings) -> Person:
    """The person of case `number`, without drawing pictures."""
    latent = latent_of(number, settings=settings)
    return person(latent, stream("person", number, settings=settings))


def centre_of(number: int, *, settings: SynthSettings) -> Centre:
    """The hospital of case `number`."""
    return centre(_centre_number(number, settings), seed=settings.seed, shift=settings.shift)


def _centre_number(number: int, settings: SynthSettings) -> int:
    return int(stream("centre", number, settings=settings).integers(settings.centres))


@dataclass(frozen=True, eq=False)
class Drawn:
    """A case in memory. artefact: one of ARTEFACTS or None, and where; trap: whether the cohort's shortcut is on it,
    and where: on the MRI, on the slide, None where no region can be pointed at."""

    body: Scan
    slide: Section
    slide_quality: int
    artefact: str | None = None
    artefact_mask: BoolArray | None = None
    trap: bool = False
    trap_mask: BoolArray | None = None
    trap_slide_mask: BoolArray | None = None


def draw_case(number: int, *, settings: SynthSettings) -> Drawn:
    """The pictures of case `number`."""
    latent, place = latent_of(number, settings=settings), centre_of(number, settings=settings)
    chance = stream("shortcut", number, settings=settings)
    trap = shortcuts.draw_trap(latent.malignant, correlation=settings.shortcut_correlation, rng=chance)
    shortcut = settings.shortcut if trap else "none"
    rng = stream("pictures", number, settings=settings)
    body = scan(
        latent,
        place,
        settings=settings.scan,
        rng=rng,
        mimics=draw_mimics(stream("mimics", number, settings=settings)) if latent.graded else None,
        extra_oedema_mm=shortcuts.EXTRA_OEDEMA_MM if shortcut == "oedema" else 0.0,
    )
    slide = section(latent, place, size_px=settings.slide_px, rng=rng, mpp=settings.slide_mpp)
    drawn = _spoilt(Drawn(body, slide, settings.slide_quality), stream("artefact", number, settings=settings), settings)
    return _trapped(drawn, shortcut, chance)


def _spoilt(drawn: Drawn, rng: np.random.Generator, settings: SynthSettings) -> Drawn:
    if rng.random() >= settings.artefact_share:
        return drawn
    artefact = str(rng.choice(ARTEFACTS))
    slide = drawn.slide
    rgb, where = spoil(slide.rgb, artefact, mpp=slide.mpp, rng=rng)
    osteoid = slide.osteoid & ~where if artefact == "tear" else slide.osteoid
    return replace(drawn, slide=Section(rgb, slide.mpp, osteoid), artefact=artefact, artefact_mask=where)


def _trapped(drawn: Drawn, shortcut: str, rng: np.random.Generator) -> Drawn:
    body, slide = drawn.body, drawn.slide
    # A lesion that fills its bone leaves no marrow for more oedema.
    drawn = replace(drawn, trap=shortcut != "none" and (shortcut != "oedema" or bool(body.extra_oedema.any())))
    if shortcut == "marker":
        images, where = shortcuts.mark(body.images)
        return replace(drawn, body=replace(body, images=images), trap_mask=where)
    if shortcut == "oedema" and drawn.trap:
        return replace(drawn, trap_mask=body.extra_oedema)
    if shortcut == "coil":
        return replace(drawn, body=replace(body, images=shortcuts.shade(body.images, body.affine)))
    if shortcut == "pen":
        rgb, line = shortcuts.scribble(slide.rgb, mpp=slide.mpp, rng=rng)
        return replace(drawn, slide=replace(slide, rgb=rgb), trap_slide_mask=line)
    if shortcut == "jpeg":
        return replace(drawn, slide_quality=min(drawn.slide_quality, shortcuts.POOR_QUALITY))
    return drawn


def write_case(out: Path, number: int, settings: SynthSettings) -> None:
    """Write case `number` into out/cases; it lands whole, by a rename."""
    final = out / "cases" / name_of(number)
    part = out / "cases" / f".{name_of(number)}.{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    row = _write_files(part, number, settings)
    row = {key: f"cases/{name_of(number)}/{value}" if key in _PATHS and value else value for key, value in row.items()}
    (part / "case.json").write_text(json.dumps(row, indent=1, allow_nan=False), encoding="utf-8")
    part.rename(final)


_PATHS = {column for column in (*COLUMNS, *EXTRA_COLUMNS) if column.endswith("_mask")}
_PATHS |= {*MRI_COLUMNS, "slide", "rna"}


def _write_files(folder: Path, number: int, settings: SynthSettings) -> dict[str, object]:
    """Writes the case's files and gives its row, paths relative to the case's folder."""
    drawn = draw_case(number, settings=settings)
    body, slide = drawn.body, drawn.slide
    row: dict[str, object] = dict.fromkeys((*COLUMNS, *EXTRA_COLUMNS))
    step = settings.scan.step
    for contrast, image in body.images.items():
        stored = (np.round(image / step) * step).astype(np.int16)
        row[CONTRASTS[contrast].column] = _write_volume(folder / f"{contrast}.nii.gz", stored, body)
    masks = {
        "tumour_mask": body.tumour,
        "lesion_mask": body.lesion,
        "bone_mask": body.bone,
        "cortical_destruction_mask": body.destruction,
        "trap_mask": drawn.trap_mask,
    }
    for column, mask in masks.items():
        if mask is not None:
            row[column] = _write_volume(folder / f"{column}.nii.gz", mask.astype(np.uint8), body)
    write_pyramid(folder / "slide.tif", slide.rgb, mpp=slide.mpp, quality=drawn.slide_quality)
    flat = {
        "osteoid_mask": slide.osteoid,
        "slide_artefact_mask": drawn.artefact_mask,
        "trap_slide_mask": drawn.trap_slide_mask,
    }
    for column, area in flat.items():
        if area is not None:
            Image.fromarray(area).save(folder / f"{column}.png")
            row[column] = f"{column}.png"
    (folder / "osteoid.geojson").write_text(json.dumps(to_geojson(slide.osteoid, name="Osteoid")), encoding="utf-8")
    genes = _genes(number, settings)
    genes.to_csv(folder / "rna.csv", index=False, lineterminator="\n")
    if settings.shortcut != "none":
        row["trap"] = int(drawn.trap)
    return row | _told(number, drawn, settings) | {"slide": "slide.tif", "rna": "rna.csv"}


def _write_volume(path: Path, voxels: np.ndarray, body: Scan) -> str:
    sitk.WriteImage(to_image(voxels, body.affine), str(path))
    return path.name


def _genes(number: int, settings: SynthSettings) -> pd.DataFrame:
    """Drivers as 0 or 1, then expression: columns gene, value."""
    latent = latent_of(number, settings=settings)
    values: dict[str, str] = {k: str(int(v)) for k, v in person_of(number, settings=settings).drivers.items()}
    rng = stream("genes", number, settings=settings)
    levels = expression(latent, _centre_number(number, settings), rng)
    values |= {gene: f"{level:.3f}" for gene, level in levels.items()}
    return pd.DataFrame({"gene": list(values), "value": list(values.values())})


def _told(number: int, drawn: Drawn, settings: SynthSettings) -> dict[str, object]:
    """What the table says of a case beside its files."""
    latent, place = latent_of(number, settings=settings), centre_of(number, settings=settings)
    who = person_of(number, settings=settings)
    x, y, z = (round(mm, 2) for mm in drawn.body.site_mm)
    first = next(iter(drawn.body.tr_te_ms.values()), None)
    return {
        "case_id": name_of(number),
        "patient_id": name_of(number),
        "slide_mpp": drawn.slide.mpp,
        "site_x_mm": x,
        "site_y_mm": y,
        "site_z_mm": z,
        "malignant": int(latent.malignant),
        "severity_pct": round(drawn.body.severity_pct, 3),
        "event": None if who.event is None else int(who.event),
        "time_months": None if who.time_months is None else round(who.time_months, 2),
        "age_years": round(latent.age_years, 1),
        "sex": who.sex,
        "centre": place.name,
        "scanner": place.scanner,
        "field_t": place.field_t,
        "te_ms": None if first is None else round(first[1], 1),
        "tr_ms": None if first is None else round(first[0], 1),
        "coil": place.coil,
        "slide_artefact": drawn.artefact,
    }
