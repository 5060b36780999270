"""The demo cohort of data_samples: `python -m cmssd_core.synthetic.demo data_samples`.

Small files of the test split: all severities, both classes, and one case each with what goes wrong in a clinic.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from cmssd_core.machine.atomic import write_atomic
from cmssd_core.synthetic.case import name_of, write_case
from cmssd_core.synthetic.cohort import write, write_tables
from cmssd_core.synthetic.phantom import ScanSettings
from cmssd_core.synthetic.settings import SynthSettings

#: Two contrasts, coarser grey levels and stronger JPEG than usual, so that 24 cases stay below 15 MB.
SETTINGS = SynthSettings(
    cases=24,
    seed=3554,
    scan=ScanSettings(contrasts=("t1", "t2"), step=8),
    slide_px=1024,
    slide_quality=70,
    split="test",
)
WITHOUT_MRI, WITHOUT_SLIDE, SPOILT, TRAPPED = 9, 6, 8, 3  # numbers of cases; the first case stays whole


def write_demo(out: Path, *, settings: SynthSettings = SETTINGS) -> Path:
    """Write the demo cohort into `out` and give its cohort.csv. Raises InputError as `write` does."""
    write(out, settings=settings)
    for number, other in (
        (SPOILT, replace(settings, slide_artefacts=1.0)),
        (TRAPPED, replace(settings, shortcut="marker", shortcut_correlation=0.0)),  # a benign case with the trap
    ):
        shutil.rmtree(out / "cases" / name_of(number))
        write_case(out, number, other)
    _leave_out(
        out, WITHOUT_MRI, ("mri_t1", "mri_t2", "tumour_mask", "lesion_mask", "bone_mask", "cortical_destruction_mask")
    )
    _leave_out(out, WITHOUT_SLIDE, ("slide", "slide_mpp", "osteoid_mask", "site_x_mm", "site_y_mm", "site_z_mm"))
    (out / "cases" / name_of(WITHOUT_SLIDE) / "osteoid.geojson").unlink(missing_ok=True)
    write_tables(out, settings=settings)
    return out / "cohort.csv"


def _leave_out(out: Path, number: int, columns: tuple[str, ...]) -> None:
    """Removes the files that a case's columns name, and empties these."""
    stated = out / "cases" / name_of(number) / "case.json"
    row = json.loads(stated.read_text(encoding="utf-8"))
    for column in columns:
        if isinstance(row[column], str):
            (out / row[column]).unlink(missing_ok=True)
        row[column] = None
    text = json.dumps(row, indent=1, allow_nan=False)
    write_atomic(stated, lambda path: path.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="make the demo cohort")
    parser.add_argument("out", type=Path)
    print(write_demo(parser.parse_args().out))
