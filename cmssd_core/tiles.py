"""Tiles alone: a folder or a table of H&E tiles becomes a cohort, and tissue classes are read off encoder features."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from cmssd_core import cohort as cohorts
from cmssd_core import inference
from cmssd_core.cases import prepare
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.evaluation.metrics import absent, share
from cmssd_core.evaluation.roc import auc
from cmssd_core.types import InputError, PatchBag
from cmssd_core.weights_file import DEFAULT

Values = npt.NDArray[np.float64]
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
PATIENT = re.compile(r"(?<![A-Za-z0-9])(Case[-_ ]?\d+|P\d+)(?![0-9])", re.IGNORECASE)
TOGETHER = 64  # patches that pass the encoder at once


def class_of(text: str, *, whole: bool = False) -> str | None:
    """The tissue class a file's name begins with, or (whole) a cell says and nothing else; None where there is none."""
    letters = re.sub(r"[^a-z]", "", text.lower())
    if whole:
        return CLASS_OF.get(letters)
    return next((CLASS_OF[word] for word in sorted(CLASS_OF, key=len, reverse=True) if letters.startswith(word)), None)


def tiles(source: Path, *, mpp: float | None = None) -> tuple[pd.DataFrame, Path]:
    """A cohort (all columns of `cohort.COLUMNS`) of H&E tiles, and the folder its paths are relative to.

    source: a folder of images whose names, or whose folders' names, begin with the class ("Viable___Case-3-....jpg"),
    or a CSV with columns for image, class and, if known, patient and mpp (see NAMES), paths relative to it. The patient
    is the first "Case-N" or "PN" of a name; one whose name says none is a patient by itself. mpp: for tiles that do not
    say theirs. Raises InputError where a tile has no class, or no tile is found.
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
    said = [PATIENT.search(Path(name).name) for name in table["slide"]]
    guess = [
        re.sub(r"[_ ]", "-", found[1]) if found else case for found, case in zip(said, table["case_id"], strict=True)
    ]
    known = table["patient_id"] if "patient_id" in table else pd.Series(None, table.index, dtype=object)
    table["patient_id"] = known.astype(object).where(known.notna(), guess)
    if mpp is not None:
        table["slide_mpp"] = table["slide_mpp"].fillna(mpp) if "slide_mpp" in table else mpp
    if "slide_mpp" not in table or table["slide_mpp"].isna().any():
        raise InputError("tiles say no microns per pixel; pass --mpp (1.0 is usual for 10x, 0.5 for 20x, 0.25 for 40x)")
    return table.reindex(columns=list(cohorts.COLUMNS)), root


def are_tiles(source: Path) -> bool:
    """Whether a source is a folder of tiles or a table of them, and no cohort of cases."""
    if source.is_dir():
        if (source / "cohort.csv").is_file():
            return are_tiles(source / "cohort.csv")
        return any(path.suffix.lower() in SUFFIXES for path in source.rglob("*"))
    try:
        table = pd.read_csv(source, dtype=str).dropna(axis=1, how="all")
    except (ValueError, OSError):
        return False
    told = {re.sub(r"[^a-z0-9]", "", str(name).lower()) for name in table.columns}
    of_cases = set(cohorts.MRI_COLUMNS) | set(cohorts.MASK_COLUMNS) | {"malignant", "severity_pct"}
    return all(told & set(NAMES[ours]) for ours in ("slide", "tissue_class")) and not of_cases & set(table.columns)


def in_words(told: dict[str, Any]) -> list[str]:
    """The figures of `evaluate` as lines for a terminal."""
    lines = []
    for name in (key for key in told if key.startswith(("tumour_", "three_", "recall_"))):
        found, label = told[name], name.replace("_", " ")
        if found["value"] is None:
            lines.append(f"{label}: none, {found['reason']}")
            continue
        doubt = found["reason"] or "too few for an interval"
        doubt = doubt if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
        lines.append(f"{label}: {found['value']:.3f} ({doubt}; {found['n']} tiles)")
    lines += [f"refused {row['tile']}: {row['why']}" for row in told["refused"]]
    few = f"tiles of {told['n_patients']} patients, counted as if independent, which flatters the intervals"
    return [*lines, few, f"{told['model_id']}; classes learned on {told['trained']}"]


def _from_names(folder: Path) -> pd.DataFrame:
    found = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise InputError(f"{folder.name} holds no tiles ({', '.join(SUFFIXES)}); check the path")
    rows = [(str(name), class_of(name.name) or class_of(name.parent.name)) for name in found]
    unsaid = [name for name, said in rows if said is None]
    if unsaid:
        raise InputError(
            f"{unsaid[0]} ({len(unsaid)} of {len(rows)} tiles) says no class; expected a name or folder that begins "
            "with Non-Tumor, Non-Viable or Viable; rename them, or give a CSV with columns slide and tissue_class"
        )
    return pd.DataFrame(rows, columns=["slide", "tissue_class"])


def _from_table(path: Path) -> pd.DataFrame:
    try:
        given = pd.read_csv(path, dtype=str)
    except (ValueError, OSError) as problem:
        raise InputError(f"{path.name} is not a CSV table ({' '.join(str(problem).split())}); mend it") from None
    by_letters = {re.sub(r"[^a-z0-9]", "", str(name).lower()): name for name in given.columns}
    columns = {ours: next((by_letters[n] for n in names if n in by_letters), None) for ours, names in NAMES.items()}
    for ours in ("slide", "tissue_class"):
        if columns[ours] is None:
            raise InputError(f"{path.name} has no column {ours} (nor {', '.join(NAMES[ours][1:])}); add it")
    table = pd.DataFrame({ours: given[theirs] for ours, theirs in columns.items() if theirs is not None})
    below: dict[str, list[str]] = defaultdict(list)
    for found in sorted(p for p in path.parent.rglob("*") if p.suffix.lower() in SUFFIXES):
        below[found.stem].append(str(found.relative_to(path.parent)))
    files = []
    for row, (name, text) in enumerate(zip(table["slide"], table["tissue_class"], strict=True), start=2):
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
    if "slide_mpp" in table:
        table["slide_mpp"] = pd.to_numeric(table["slide_mpp"], errors="coerce")
    return table


def _named(name: str, root: Path, below: Mapping[str, list[str]]) -> list[str]:
    """The files a cell may mean; below: stem -> files. Lists of tiles often name them without folder or ending."""
    if os.path.isfile(os.path.join(root, name)):  # Path.is_file raises for a name that is too long
        return [name]
    alike = below.get(name) or below.get(Path(name).stem) or []
    return [file for file in alike if Path(file).name == Path(name).name] or alike


def patches(
    table: pd.DataFrame, root: Path, predictor: inference.Predictor, *, program: Settings
) -> list[PatchBag | None]:
    """Each tile's patches, prepared as the model wants them; None for a tile without tissue."""
    found: list[PatchBag | None] = []
    for _, row in table.iterrows():
        case = cohorts.admit_row(row, root)
        try:
            bag = prepare(case, spec=predictor.spec, settings=program).inputs["he"]
        except InputError as reason:
            if "no tissue" not in str(reason):
                raise
            found.append(None)
        else:
            assert isinstance(bag, PatchBag)  # prepare gives the kinds it was given
            found.append(bag)
    return found


def features(bag: PatchBag, predictor: inference.Predictor) -> Values:
    """What the H&E encoder sees in a tile, (feature,): its stages averaged over each patch, then over the patches."""
    encoder = predictor.model.get_submodule("phi_he")
    pixels = torch.tensor(bag.patches).permute(0, 3, 1, 2).float() / 255
    total: list[torch.Tensor] = []
    with inference.precision(predictor.device):
        for part in pixels.split(TOGETHER):
            stages = encoder.get_submodule("trunk")(1.0 - part.to(predictor.device))
            total.append(torch.cat([stage.float().mean(dim=(2, 3)) for stage in stages], dim=1).cpu())
    return np.asarray(torch.cat(total).mean(0), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Head:
    """A multinomial logistic regression on features: p = softmax(weight ((x - mean) / deviation) + bias).

    weight (class, feature), bias (class,). model_id: whose features. trained: on what, in words.
    """

    classes: tuple[str, ...]
    mean: Values
    deviation: Values
    weight: Values
    bias: Values
    model_id: str
    trained: str

    def __call__(self, seen: Values) -> Values:
        """Probabilities (tile, class) of features (tile, feature); a tile without tissue (NaN) is no tumour."""
        logits = (np.nan_to_num(seen) - self.mean) / self.deviation @ self.weight.T + self.bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        empty = np.isnan(seen).any(1)
        p[empty] = np.array([name == "non_tumor" for name in self.classes])
        return np.asarray(p)


def fit_head(seen: Values, classes: list[str], *, model_id: str, trained: str, strength: float = 0.1) -> Head:
    """A Head by ridge-penalised maximum likelihood (C = strength), classes weighed evenly; NaN rows are left out."""
    there = ~np.isnan(seen).any(1)
    x, y = seen[there], np.array(classes)[there]
    names = tuple(name for name in CLASSES if name in set(y))
    if len(names) < 2:
        raise InputError(
            f"tiles of {', '.join(names) or 'no class'} alone came, expected two classes or three; add some"
        )
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    learner = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    learner.fit((x - mean) / deviation, y)
    order = [list(learner.classes_).index(name) for name in names]
    weight, bias = learner.coef_, learner.intercept_
    if len(names) == 2:  # one row of logits stands for two classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Head(names, mean, deviation, weight[order], bias[order], model_id, trained)


def save_head(head: Head, path: Path) -> None:
    """Write a Head, whole or not at all."""
    arrays = {name: getattr(head, name).astype(np.float32) for name in ("mean", "deviation", "weight", "bias")}
    header = {"classes": head.classes, "model_id": head.model_id, "trained": head.trained}
    part = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(arrays, str(part), metadata={"cmssd-tiles": json.dumps(header)})
    part.chmod(0o644)
    part.replace(path)


def load_head(path: Path, *, model_id: str) -> Head:
    """A Head of this very model's features. Raises InputError where it is missing, damaged or of another model."""
    again = "fit it anew with python -m benchmarks.real_data head"
    if not path.is_file():
        raise InputError(f"no tile classes at {path.name}; expected a head fitted on tiles; {again}")
    try:
        with safe_open(str(path), "np") as stored:
            header = json.loads((stored.metadata() or {})["cmssd-tiles"])
            arrays = {name: stored.get_tensor(name).astype(np.float64) for name in stored.keys()}  # noqa: SIM118
        head = Head(**{**header, "classes": tuple(header["classes"])}, **arrays)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as problem:
        raise InputError(f"{path.name} is no readable head of tile classes ({problem}); {again}") from None
    if head.model_id != model_id:
        raise InputError(f"{path.name} was fitted on features of {head.model_id}, the model is {model_id}; {again}")
    return head


def head_of(weights: Path) -> Path:
    """Where the head of a weights file lies: beside it."""
    return weights.with_suffix(".tiles.safetensors")


def evaluate(
    source: Path,
    weights: Path | None = None,
    *,
    head: Path | None = None,
    mpp: float | None = None,
    split: str = "all",
    program: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Tissue classes of tiles (a folder or a table, see `tiles`) against their names.

    head: None = the one beside the weights. split: of a table that has one, see `cohort.of_split`. Gives JSON-able
    figures of `figures` with "kind", "model_id", "trained", one row a tile, and what was refused. Raises InputError
    where tiles, weights or head cannot be used.
    """
    program = program or default_settings()
    table, root = tiles(source, mpp=mpp)
    table = cohorts.of_split(table, split)
    chosen = weights or program.weights or DEFAULT
    predictor = inference.load(chosen, settings=program)
    known = load_head(head or head_of(chosen), model_id=predictor.model_id)
    seen, refused = [], {}
    for done in range(len(table)):
        try:
            (bag,) = patches(table.iloc[done : done + 1], root, predictor, program=program)
            seen.append(np.full(len(known.mean), np.nan) if bag is None else features(bag, predictor))
        except InputError as problem:
            refused[table.index[done]] = {"tile": str(table["slide"].iloc[done]), "why": str(problem)}
        if progress:
            progress(done + 1, len(table))
    table = table.drop(index=list(refused))
    if table.empty:
        first = next(iter(refused.values()))
        raise InputError(f"no tile could be read; of {first['tile']} it was said: {first['why']}")
    p = known(np.stack(seen))
    rows = [
        {
            "tile": str(name),
            "patient_id": str(who),
            "tissue_class": said,
            **dict(zip(known.classes, map(float, each), strict=True)),
        }
        for name, who, said, each in zip(table["slide"], table["patient_id"], table["tissue_class"], p, strict=True)
    ]
    found = figures(p, known.classes, table["tissue_class"].tolist(), table["patient_id"].tolist())
    return {"kind": "tiles", "model_id": predictor.model_id, "trained": known.trained, **found, "tiles": rows,
            "refused": list(refused.values())}  # fmt: skip


def figures(p: Values, classes: tuple[str, ...], said: list[str], patients: list[str]) -> dict[str, Any]:
    """Tumour against none over all tiles; three classes over the patients who show all three, else why not.

    Intervals are Wilson's and DeLong's over tiles as if each came from a patient of its own, which flatters: tiles of
    one patient resemble one another. n_patients stands beside them.
    """
    truth, who = np.array(said), np.array(patients)
    tumour, p_tumour = truth != "non_tumor", 1.0 - p[:, classes.index("non_tumor")]
    called = np.array(classes)[p.argmax(1)]
    found: dict[str, Any] = {
        "n_patients": len(set(patients)),
        "tumour_accuracy": asdict(share((p_tumour >= 0.5) == tumour)),
        "tumour_sensitivity": asdict(share((p_tumour >= 0.5)[tumour])),
        "tumour_specificity": asdict(share((p_tumour < 0.5)[~tumour])),
        "tumour_auc": asdict(auc(tumour, p_tumour)),
    }
    whole = [name for name in np.unique(who) if set(truth[who == name]) == set(CLASSES)]
    rows = np.isin(who, whole)
    if len(classes) < len(CLASSES) or not whole:
        why = "no patient shows all three classes, so patient and class cannot be told apart"
        return {**found, "three_classes": asdict(absent(why)), "confusion": None}
    confusion = [[int(((truth == a) & (called == b) & rows).sum()) for b in CLASSES] for a in CLASSES]
    recalls = {f"recall_{name}": asdict(share((called == name)[rows & (truth == name)])) for name in CLASSES}
    return {**found, "three_classes": asdict(share((called == truth)[rows])), **recalls, "confusion": confusion}
