"""Osteosarcoma tiles, tumour or not, one patient left out at a time: features learned on synthetic slides, beside none.

Arms: colour (a histogram of the tile's colours), features (of the weights' H&E encoder, frozen) and features-random (of
the same encoder before any training), each under one logistic regression; tuned and tuned-random, where the encoder is
trained on with a linear head, both with the same steps. A tile without tissue is called no tumour by every arm.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from cmssd_core.cohort.tiles import find_tiles
from cmssd_core.config import Settings
from cmssd_core.evaluation.figure import share
from cmssd_core.evaluation.roc import area
from cmssd_core.inference import predict as inference
from cmssd_core.inference.tile_head import tile_features, tile_patches
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.models import MODELS
from cmssd_core.types import PatchBag

ARMS = ("colour", "features-random", "features", "tuned-random", "tuned")
BINS = 8  # a channel of the colour histogram
TILES_A_STEP, PATCHES_A_TILE = 8, 4
LEARNING_RATE = 3e-4
STRENGTH = 0.1  # of the logistic regressions, chosen beforehand: two patients leave nothing to choose it on


def untrained(predictor: inference.Predictor, seed: int) -> inference.Predictor:
    """The same network before any training."""
    torch.manual_seed(seed)
    model = MODELS[predictor.info.model](predictor.info.size)
    model.spec = predictor.spec
    return replace(predictor, model=model.eval(), model_id=f"{predictor.info.name}-random")


def colours(bags: list[PatchBag | None]) -> np.ndarray:
    """Share of a tile's pixels in each bin of red, green and blue (tile, 3 * BINS), of the stain-normalised patches."""
    rows = []
    for bag in bags:
        if bag is None:
            rows.append(np.full(3 * BINS, np.nan))
            continue
        pixels = bag.patches.reshape(-1, 3)
        counts = [np.bincount(pixels[:, c] // (256 // BINS), minlength=BINS) for c in range(3)]
        rows.append(np.concatenate(counts) / len(pixels))
    return np.array(rows)


def encoded(bags: list[PatchBag | None], predictor: inference.Predictor) -> np.ndarray:
    """Features (tile, feature), NaN for a tile without tissue."""
    seen = [None if bag is None else tile_features(bag, predictor) for bag in bags]
    width = next(len(row) for row in seen if row is not None)
    return np.array([np.full(width, np.nan) if row is None else row for row in seen])


def regression(seen: np.ndarray, tumour: np.ndarray, train: np.ndarray) -> np.ndarray:
    """P(tumour) of every tile by a logistic regression fitted on the training tiles."""
    there = ~np.isnan(seen).any(1)
    fit = train & there
    mean, deviation = seen[fit].mean(0), seen[fit].std(0) + 1e-6
    learner = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000)
    learner.fit((seen[fit] - mean) / deviation, tumour[fit])
    p = learner.predict_proba((np.nan_to_num(seen) - mean) / deviation)[:, 1]
    return np.where(there, p, 0.0)


class Tuned(nn.Module):
    """The encoder's trunk and a linear head on its standardised averages: patches (tile, patch, 3, y, x) -> logit."""

    def __init__(self, predictor: inference.Predictor, seen: np.ndarray) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(predictor.model.get_submodule("phi_he.trunk"))
        self.register_buffer("mean", torch.tensor(np.nanmean(seen, 0), dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(np.nanstd(seen, 0) + 1e-3, dtype=torch.float32))
        self.head = nn.Linear(seen.shape[1], 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        stages = self.trunk(1.0 - patches.flatten(0, 1))
        averages = torch.cat([stage.mean(dim=(2, 3)) for stage in stages], dim=1).unflatten(0, patches.shape[:2])
        return self.head((averages.mean(1) - self.mean) / self.deviation).squeeze(1)


def tuned(
    bags: list[PatchBag | None],
    tumour: np.ndarray,
    train: np.ndarray,
    predictor: inference.Predictor,
    steps: int,
    seed: int,
) -> np.ndarray:
    """P(tumour) of every tile by the encoder trained on with a head, on the training tiles alone."""
    there = np.array([bag is not None for bag in bags])
    network = Tuned(predictor, encoded([b for b, t in zip(bags, train, strict=True) if t], predictor))
    network.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.02)
    groups = [np.flatnonzero(train & there & (tumour == label)) for label in (False, True)]
    for step in range(steps):
        rng = np.random.default_rng([seed, step])
        chosen = np.concatenate([rng.choice(group, TILES_A_STEP // 2) for group in groups])
        batch = torch.stack([_varied(bags[i], rng) for i in chosen])
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        value = F.binary_cross_entropy_with_logits(network(batch), torch.tensor(tumour[chosen], dtype=torch.float32))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()
    with torch.inference_mode():
        return np.array([0.0 if bag is None else float(network(_pixels(bag.patches)[None]).sigmoid()) for bag in bags])


def _pixels(patches: np.ndarray) -> torch.Tensor:
    return torch.tensor(patches).permute(0, 3, 1, 2).float() / 255


def _varied(bag: PatchBag, rng: np.random.Generator) -> torch.Tensor:
    """A few of a tile's patches, turned and mirrored, their stain a little stronger or weaker."""
    picked = rng.choice(len(bag.patches), PATCHES_A_TILE, replace=len(bag.patches) < PATCHES_A_TILE)
    pixels = torch.rot90(_pixels(bag.patches[picked]), int(rng.integers(4)), (-2, -1))
    pixels = pixels.flip(-1) if rng.random() < 0.5 else pixels
    density = -torch.log(pixels.clamp(min=1 / 255))
    return torch.exp(-density * torch.tensor(1 + 0.1 * rng.standard_normal((1, 3, 1, 1)), dtype=torch.float32))


def run(data: Path, weights: Path, out: Path, *, mpp: float | None, arms: list[str], steps: int, seed: int) -> None:
    """Every fold that has no result yet; one JSON a fold."""
    program = Settings(device="cpu")
    predictor = inference.load(weights, settings=program)
    found, root = find_tiles(data, mpp=mpp)
    tumour = (found["tissue_class"] != "non_tumor").to_numpy()
    who = found["patient_id"].to_numpy()
    bags: list[PatchBag | None] = []
    for arm in arms:
        seen = None
        for held in sorted(set(who)):
            path = out / "tiles" / f"{_name(arm, predictor, steps, seed)}" / f"{held}.json"
            if path.exists():
                continue
            began = time.perf_counter()
            bags = bags or tile_patches(found, root, predictor, program=program)
            start = untrained(predictor, seed) if arm.endswith("random") else predictor
            train = who != held
            if arm.startswith("tuned"):
                p = tuned(bags, tumour, train, start, steps, seed)
            else:
                if seen is None:
                    seen = colours(bags) if arm == "colour" else encoded(bags, start)
                p = regression(seen, tumour, train)
            rows = [
                {"tile": str(name), "tissue_class": str(said), "p_tumour": float(each), "tissue": bag is not None}
                for name, said, each, bag, test in zip(
                    found["slide"], found["tissue_class"], p, bags, ~train, strict=True
                )
                if test
            ]
            path.parent.mkdir(parents=True, exist_ok=True)
            seconds = time.perf_counter() - began
            text = json.dumps({"arm": arm, "patient": held, "seconds": seconds, "tiles": rows}, indent=1)
            write_atomic(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
            right = [(row["p_tumour"] >= 0.5) == (row["tissue_class"] != "non_tumor") for row in rows]
            print(f"{arm:<16}{held:<9} {sum(right)} of {len(right)} right  {seconds:.0f} s", flush=True)


def _name(arm: str, predictor: inference.Predictor, steps: int, seed: int) -> str:
    start = predictor.model_id if arm in ("features", "tuned") else "any"
    return (
        f"{arm}-{start}"
        + (f"-{steps}steps" if arm.startswith("tuned") else "")
        + ("" if arm == "colour" else f"-seed{seed}")
    )


def table(out: Path) -> str:
    """Every arm: accuracy by held-back patient with Wilson's interval, over all, right by class, balanced, ROC area."""
    found: dict[str, pd.DataFrame] = {}
    for path in sorted(out.glob("tiles/*/*.json")):
        rows = pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))["tiles"]).assign(patient=path.stem)
        found[path.parent.name] = pd.concat([found.get(path.parent.name), rows])
    if not found:
        return "no fold is there yet"
    patients = sorted({name for rows in found.values() for name in rows["patient"]})
    heads = ["arm", *patients, "all tiles", "right, by patient and class", "balanced", "ROC area"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, rows in found.items():
        tumour, p = (rows["tissue_class"] != "non_tumor").to_numpy(), rows["p_tumour"].to_numpy()
        right = (p >= 0.5) == tumour
        of = {who: right[(rows["patient"] == who).to_numpy()] for who in patients}
        by_class = rows.assign(right=right).groupby(["patient", "tissue_class"])["right"].agg(["sum", "count"])
        each = "; ".join(f"{who} {said} {a} of {b}" for (who, said), (a, b) in by_class.iterrows())
        balanced = np.mean([right[tumour == label].mean() for label in np.unique(tumour)])
        whole = area(tumour, p)
        cells = [*(_share(one) for one in of.values()), _share(right), each, f"{balanced:.2f}"]
        lines.append("| " + " | ".join([name, *cells, "-" if whole is None else f"{whole:.2f}"]) + " |")
    return "\n".join(lines)


def _share(right: np.ndarray) -> str:
    if not len(right):
        return ""
    figure = share(right)
    interval = "" if figure.low is None else f" ({figure.low:.2f} to {figure.high:.2f})"
    return f"{figure.value:.2f}{interval}, n {figure.n}"
