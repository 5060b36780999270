"""Tissue classes of H&E tiles: a logistic regression on what the slide encoder sees."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from cmssd_core.cases.prepare import prepare
from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.tiles import CLASSES
from cmssd_core.config import Settings
from cmssd_core.inference import predict as inference
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.types import InputError, PatchBag

Values = npt.NDArray[np.float64]


TOGETHER = 64  # patches that pass the encoder at once


def tile_patches(
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


def tile_features(bag: PatchBag, predictor: inference.Predictor) -> Values:
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
    present = ~np.isnan(seen).any(1)
    x, y = seen[present], np.array(classes)[present]
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

    def write(part: Path) -> None:
        save_file(arrays, str(part), metadata={"cmssd-tiles": json.dumps(header)})
        part.chmod(0o644)

    write_atomic(path, write)


def load_head(path: Path, *, model_id: str) -> Head:
    """A Head of this very model's features. Raises InputError where it is missing, damaged or of another model."""
    again = "fit it anew with python -m experiments.real_data head"
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
