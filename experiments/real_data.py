"""What the program does on real images, with tables: tiles, MRI, chimeric cases; each fold is kept, so a run resumes.

    python -m experiments.real_data tiles --data TILES --mpp 1.0 --out DIR [--weights W]
    python -m experiments.real_data mri --data PAIRS --out DIR [--weights W] [--arms untouched ...] [--patients ...]
    python -m experiments.real_data chimeric --data PAIRS --tiles TILES --mpp 1.0 --out DIR [--weights W]
    python -m experiments.real_data head --data TILES --mpp 1.0 [--weights W]     tile classes, kept beside the weights
    python -m experiments.real_data cohort --data FOLDER --to CSV [--mpp X]       a cohort.csv of tiles or of pairs
    python -m experiments.real_data table --out DIR                               the tables of what is there

TILES is a folder of images with the class in their names, or a CSV; PAIRS a folder of MRI and mask pairs: see
docs/real_data.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from cmssd_core.cases import admit as cases
from cmssd_core.cohort import table as cohort
from cmssd_core.cohort.pairs import find_pairs
from cmssd_core.cohort.tiles import find_tiles
from cmssd_core.config import Settings
from cmssd_core.inference import predict as inference
from cmssd_core.inference.tile_head import fit_head, head_of, save_head, tile_patches
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.models import weights as weights_file
from cmssd_core.types import InputError
from experiments import real_mri, real_tiles


def chimeric(pairs: Path, sections: Path, weights: Path, out: Path, *, mpp: float) -> None:
    """Each MRI with one tile of each class, as a user's case goes; no two are of one patient, and it means nothing."""
    predictor = inference.load(weights)
    table, root = find_tiles(sections, mpp=mpp)
    chosen = table.groupby("tissue_class").first()
    path = out / f"chimeric-{predictor.model_id}.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    done = {(row["mri"], row["tile_class"]) for row in rows}
    out.mkdir(parents=True, exist_ok=True)
    for _, pair in find_pairs(pairs).iterrows():
        for said, tile in chosen.iterrows():
            if (pair["case_id"], said) in done:
                continue
            case = cases.admit(contrasts={"t1": pairs / pair["mri_t1"]}, he=root / tile["slide"], mpp=mpp)
            found = inference.predict(case, predictor, settings=Settings())
            rows.append(
                {
                    "mri": str(pair["case_id"]), "tile_class": str(said), "severity_pct": found.severity_pct,
                    "p_malignant": found.p_malignant, "tumour_ml": found.tumour_ml, "bone_ml": found.bone_ml,
                    "findings": [f"{f.level}: {f.what}" for f in found.quality], "seconds": found.timings_s["total"],
                }
            )  # fmt: skip
            text = json.dumps(rows, indent=1, allow_nan=False)
            write_atomic(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))


def chimeric_table(out: Path) -> str:
    lines = []
    for path in sorted(out.glob("chimeric-*.json")):
        lines += [f"{path.stem}: chimeric, MRI and tile are of different people; fit for nothing clinical"]
        lines += ["| MRI | tile | severity % | p malignant | tumour mL | bone mL | findings |", "|---" * 7 + "|"]
        for row in json.loads(path.read_text(encoding="utf-8")):
            cells = [
                row["mri"],
                row["tile_class"],
                *(_number(row[k]) for k in ("severity_pct", "p_malignant", "tumour_ml", "bone_ml")),
            ]
            severe = [f for f in row["findings"] if not f.startswith("info")]
            lines.append("| " + " | ".join([*cells, "; ".join(severe) or "none"]) + " |")
    return "\n".join(lines) or "no chimeric case is there yet"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def head(data: Path, weights: Path, *, mpp: float | None) -> Path:
    """Fit the tile classes on every tile of a folder and keep them beside the weights."""
    program = Settings(device="cpu")
    predictor = inference.load(weights, settings=program)
    table, root = find_tiles(data, mpp=mpp)
    seen = real_tiles.encoded(tile_patches(table, root, predictor, program=program), predictor)
    words = f"{len(table)} real tiles of {table['patient_id'].nunique()} patients; research use only"
    fitted = fit_head(seen, table["tissue_class"].tolist(), model_id=predictor.model_id, trained=words)
    save_head(fitted, head_of(weights))
    return head_of(weights)


def as_cohort(data: Path, to: Path, *, mpp: float | None) -> None:
    """A cohort.csv of a folder of tiles or of image and mask pairs, its paths absolute where it lies elsewhere."""
    try:
        table, root = find_pairs(data), data
    except InputError:
        table, root = find_tiles(data, mpp=mpp)
    if root.resolve() != to.parent.resolve():
        for column in ("slide", *cohort.MRI_COLUMNS, *cohort.MASK_COLUMNS):
            table[column] = [
                name if name != name or name is None else str((root / name).resolve()) for name in table[column]
            ]
    cohort.write_table(table, to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("tiles", "mri", "chimeric", "head", "cohort", "table"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tiles", type=Path)
    parser.add_argument("--weights", type=Path, default=weights_file.DEFAULT)
    parser.add_argument("--out", type=Path, default=Path("real_data"))
    parser.add_argument("--to", type=Path)
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("--patients", nargs="+", default=[])
    parser.add_argument("--steps", type=int, default=300, help="of the tiles' arms that learn")
    parser.add_argument("--seed", type=int, default=1, help="of the tiles' arms that draw")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.what is None:
        parser.print_help()
        return
    if chosen.what != "table" and chosen.data is None:
        parser.error("--data is missing: the folder of the images")
    torch.set_num_threads(chosen.threads)
    np.seterr(all="raise", under="ignore")
    if chosen.what == "tiles":
        arms = chosen.arms or list(real_tiles.ARMS)
        real_tiles.run(
            chosen.data, chosen.weights, chosen.out, mpp=chosen.mpp, arms=arms, steps=chosen.steps, seed=chosen.seed
        )
        print(real_tiles.table(chosen.out))
    elif chosen.what == "mri":
        arms = chosen.arms or list(real_mri.ARMS)
        real_mri.run(chosen.data, chosen.weights, chosen.out, arms=arms, patients=chosen.patients)
        print(real_mri.table(chosen.out))
    elif chosen.what == "chimeric":
        chimeric(chosen.data, chosen.tiles, chosen.weights, chosen.out, mpp=chosen.mpp)
        print(chimeric_table(chosen.out))
    elif chosen.what == "head":
        print(head(chosen.data, chosen.weights, mpp=chosen.mpp))
    elif chosen.what == "cohort":
        as_cohort(chosen.data, chosen.to, mpp=chosen.mpp)
    else:
        print(real_tiles.table(chosen.out), real_mri.table(chosen.out), chimeric_table(chosen.out), sep="\n\n")


if __name__ == "__main__":
    main()
