"""How often the audit fails a model that cheats, and how often an honest one: many small models of each trap.

    python -m experiments.audit_power RUNS [--minutes 80] [--part dev|first|test]

Cohorts of tiny synthetic patients are rendered with exact twins for every trap; honest models learn with the trap by
chance on either label, cheats with the trap on nearly all malignant cases (and noisy labels, so that it pays). Part
`dev` has cohorts of its own: thresholds were set on it. Each model done is a file, so a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cmssd_core.audit import measure, panel
from cmssd_core.audit.gates import localisation
from cmssd_core.audit.gates.screens import HotSpot, auc
from cmssd_core.audit.probes import PROBES, compress_jpeg
from cmssd_core.audit.subject import Subject
from cmssd_core.cases.tensors import neighbours
from cmssd_core.explain import sanity
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.models.base import Model
from cmssd_core.models.spec import PatchSpec, VolumeSpec
from cmssd_core.synthetic import shortcuts
from cmssd_core.synthetic.case import centre_of, latent_of, stream
from cmssd_core.synthetic.histology import section
from cmssd_core.synthetic.phantom import ScanSettings, scan
from cmssd_core.synthetic.settings import SynthSettings
from cmssd_core.types import Batch, ModelOutput, Volume
from cmssd_core.volume.mask import place
from cmssd_core.volume.prepare import VolumeSettings, prepare
from experiments.audit_table import table

SCAN = ScanSettings(shape=(4, 40, 40), in_plane_mm=2.5, slice_mm=10.0, contrasts=("t1", "t2"))
SLIDE_PX, PATCH_PX, MPP = 96, 32, 2.0
PATCHES = [0, 2, 6, 8]  # of the nine a slide is cut into
MRI, HE = VolumeSpec(contrasts=SCAN.contrasts, px=40, spacing_mm=2.5), PatchSpec(px=PATCH_PX, mpp=MPP)
TRAIN, JUDGE, AUDIT = 280, 80, 64  # cases to learn from, to see whether a model cheats, to audit; half malignant each
#: trap -> (modality, whether it has a place, one that looks like disease)
TRAPS = {
    "marker": ("mri", True),
    "moving": ("mri", True),
    "pen": ("he", True),
    "coil": ("mri", False),
    "field": ("mri", False),
    "stain": ("he", False),
    "oedema": ("mri", True),
    "jpeg": ("he", False),
}
PLAUSIBLE = ("oedema",)
#: P(trap | malignant) = 1 - P(trap | benign), and share of labels that are noise (the trap follows the noisy label)
STRENGTHS = {"honest": (0.5, 0.0), "mild": (0.85, 0.15), "middle": (0.95, 0.2), "strong": (0.98, 0.3)}
#: Cohort seeds of a part, and how many models of each strength are trained on each cohort and trap
PARTS = {
    "dev": ((900,), {"honest": 2, "mild": 0, "middle": 1, "strong": 1}),
    "first": ((1, 2, 3), {"honest": 4, "mild": 1, "middle": 2, "strong": 2}),  # G0 was set anew after seeing these
    "test": ((4, 5, 6), {"honest": 4, "mild": 1, "middle": 2, "strong": 2}),
}
STEPS = {"jpeg": 480}  # of training; in 120, as the others have, no network finds the blocks of a poor JPEG
MAPS, DEEP = 16, 3  # audited cases that are explained, and of these, explained again and again
GROUPS = {"coil": "coil", "field": "field_t", "stain": "centre"}  # columns of a cohort that tell these traps
EXPLAIN = ExplainSettings(steps=12)
PLAN = measure.Plan(shifts=4, noise=2, block={"mri": 5, "he": 8})


class Tiny(Model):
    """Three strided convolutions a modality, pooled by mean and maximum, and one hidden layer: seconds to train."""

    needs, optional, tasks, sizes = ("mri", "he"), (), ("malignant",), ("tiny",)

    def __init__(self, size: str = "tiny", width: int = 8) -> None:
        super().__init__(size)
        self.spec = {"mri": MRI, "he": HE}

        def branch(channels: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU(),
                nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
            )  # fmt: skip

        self.mri, self.he = branch(len(MRI.contrasts)), branch(3)
        self.head = nn.Sequential(nn.Linear(8 * width, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, batch: Batch) -> ModelOutput:
        """Batch -> the malignancy logit alone."""
        parts = []
        for encoder, images in ((self.mri, batch.inputs["mri"][:, :, 1]), (self.he, 1 - batch.inputs["he"])):
            seen = encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])
            parts += [seen.mean((1, 3, 4)), seen.amax((1, 3, 4))]
        return ModelOutput(heads={"malignant": self.head(torch.cat(parts, 1)).squeeze(1)})


class Pool:
    """Cases of one cohort seed, rendered clean and with each trap, as tensors; kept on disk."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.settings = SynthSettings(cases=2000, seed=seed, scan=SCAN, slide_px=SLIDE_PX, slide_mpp=MPP)
        self.numbers = self._numbers(TRAIN + JUDGE + AUDIT)
        self.malignant = np.array([latent_of(n, settings=self.settings).malignant for n in self.numbers])
        path = folder / f"pool-{seed}.npz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            rows = [self._render(i) for i in range(len(self.numbers))]
            keys = {k for row in rows for k in row}  # probes are laid on the audited cases alone
            arrays = {k: np.stack([row[k] for row in rows if k in row]) for k in sorted(keys)}

            def write(part: Path) -> None:
                with part.open("wb") as stream:  # by its name alone NumPy would add a suffix
                    np.savez(stream, **arrays)

            write_atomic(path, write)
        self.data = dict(np.load(path))

    def _numbers(self, count: int) -> list[int]:
        """As many malignant as benign, alternating, so that every part of the pool is balanced."""
        found: dict[bool, list[int]] = {True: [], False: []}
        for n in range(self.settings.cases):
            found[latent_of(n, settings=self.settings).malignant].append(n)
        half = count // 2
        return [n for pair in zip(found[True][:half], found[False][:half], strict=True) for n in pair]

    def _render(self, i: int) -> dict[str, np.ndarray]:
        n, settings = self.numbers[i], self.settings
        latent, where = latent_of(n, settings=settings), centre_of(n, settings=settings)
        where = replace(where, field_t=1.5, laboratory="ruifrok")  # the clean side of the traps `field` and `stain`

        def body(centre=where, **changed):
            rng = stream("pictures", n, settings=settings)
            drawn = scan(latent, centre, settings=SCAN, rng=rng, **changed)
            return drawn, section(latent, centre, size_px=SLIDE_PX, rng=rng, mpp=MPP)

        clean, slide = body()
        wide, _ = body(extra_oedema_mm=shortcuts.EXTRA_OEDEMA_MM)
        strong, dark = body(replace(where, field_t=3.0, laboratory="dark"))
        rng = stream("shortcut", n, settings=settings)
        out: dict[str, np.ndarray] = {}
        grid = None

        def mri(name: str, images: dict[str, np.ndarray], mask: np.ndarray | None = None) -> None:
            nonlocal grid
            volume = Volume(np.stack([images[c] for c in SCAN.contrasts]), clean.affine, SCAN.contrasts)
            grid, _, _ = prepare(
                volume, settings=VolumeSettings(contrasts=volume.contrasts, size_px=40, spacing_mm=2.5, n4=False)
            )
            out[f"mri/{name}"] = np.asarray(grid.voxels).transpose(1, 0, 2, 3).astype(np.float16)
            if mask is not None:
                out[f"mask/{name}"] = place(mask, clean.affine, like=grid)

        def he(name: str, rgb: np.ndarray, mask: np.ndarray | None = None) -> None:
            out[f"he/{name}"] = tiles(rgb)
            if mask is not None:
                out[f"mask/{name}"] = tiles(mask)

        def tiles(a: np.ndarray) -> np.ndarray:
            k = SLIDE_PX // PATCH_PX
            cut = a.reshape(k, PATCH_PX, k, PATCH_PX, *a.shape[2:]).swapaxes(1, 2)
            return cut.reshape(k * k, PATCH_PX, PATCH_PX, *a.shape[2:])

        rgb = compress_jpeg(slide.rgb, 92)
        mri("clean", clean.images)
        he("clean", rgb)
        out["destruction"] = place(clean.destruction, clean.affine, like=grid)
        out["pathology"] = place(clean.lesion | clean.bone, clean.affine, like=grid)
        out["osteoid"] = tiles(slide.osteoid)
        mri("marker", *PROBES["marker"].lay(clean.images, clean.affine, rng))
        mri("moving", *PROBES["moving marker"].lay(clean.images, clean.affine, rng))
        mri("coil", shortcuts.shade(clean.images, clean.affine))
        mri("field", strong.images)
        mri("oedema", wide.images, wide.extra_oedema)
        he(
            "pen",
            *(lambda pair: (compress_jpeg(pair[0], 92), pair[1]))(shortcuts.scribble(slide.rgb, mpp=MPP, rng=rng)),
        )
        he("stain", compress_jpeg(dark.rgb, 92))
        he("jpeg", compress_jpeg(slide.rgb, shortcuts.POOR_QUALITY))
        for name, probe in PROBES.items() if i >= TRAIN + JUDGE else ():
            if probe.modality == "mri":
                mri(f"probe {name}", probe.lay(clean.images, clean.affine, rng)[0])
            else:
                out[f"he/probe {name}"] = probe.lay(tiles(rgb), MPP, rng)[0]
        return out

    def images(self, which: np.ndarray, trap: str, there: np.ndarray) -> dict[str, Tensor]:
        """Cases by place, with the trap where `there` says, as inputs of a Batch without neighbours."""
        out = {}
        for modality in ("mri", "he"):
            clean = self.data[f"{modality}/clean"][which]
            if TRAPS[trap][0] == modality:
                shape = (-1, *[1] * (clean.ndim - 1))
                clean = np.where(there.reshape(shape), self.data[f"{modality}/{trap}"][which], clean)
            out[modality] = clean if modality == "mri" else clean[:, PATCHES]
        return {"mri": torch.from_numpy(out["mri"].astype(np.float32)), "he": pixels(out["he"])}

    def mask(self, name: str, place: int) -> np.ndarray:
        """A mask of one case, on its slices or on the patches a model reads."""
        found = self.data[name][place]
        return found if found.shape[-1] != PATCH_PX else found[PATCHES]

    def probed(self, name: str) -> dict[str, Tensor]:
        """The audited cases with a probe on them."""
        modality = PROBES[name].modality
        changed = self.data[f"{modality}/probe {name}"]
        own = self.images(TRAIN + JUDGE + np.arange(AUDIT), "marker", np.zeros(AUDIT, dtype=bool))
        own[modality] = (
            torch.from_numpy(changed.astype(np.float32)) if modality == "mri" else pixels(changed[:, PATCHES])
        )
        return own


def pixels(patches: np.ndarray) -> Tensor:
    """uint8 (..., y, x, 3) -> float (..., 3, y, x) in [0, 1]."""
    return torch.from_numpy(patches).movedim(-1, -3).float() / 255


def batch_of(images: dict[str, Tensor]) -> Batch:
    """Rendered cases as a Batch."""
    cases = len(images["mri"])
    there = torch.ones(cases, dtype=torch.bool)
    valid = {name: torch.ones(images[name].shape[:2], dtype=torch.bool) for name in ("mri", "he")}
    return Batch(
        ids=tuple(str(i) for i in range(cases)),
        inputs={"mri": neighbours(images["mri"], valid["mri"]), "he": images["he"]},
        valid=valid,
        present={"mri": there, "he": there},
        geometry={
            "mri.spacing_mm": torch.full((cases,), MRI.spacing_mm),
            "mri.site_voxel": torch.zeros(cases, 3),
            "mri.site_known": ~there,
            "he.patch_mm": torch.zeros(cases, images["he"].shape[1], 2),
        },
    )


@torch.inference_mode()
def logits(model: Model, images: dict[str, Tensor]) -> np.ndarray:
    return model(batch_of(images)).heads["malignant"].double().numpy()


def train(pool: Pool, trap: str, strength: str, seed: int, *, cases: int = 24, steps: int | None = None) -> Model:
    """One small model. The trap follows the label it is told, which is noise for some; for honest ones, chance."""
    correlation, noise = STRENGTHS[strength]
    rng = np.random.default_rng([seed, pool.settings.seed, list(TRAPS).index(trap)])
    torch.manual_seed(int(rng.integers(1 << 31)))
    which = np.arange(TRAIN)
    label = pool.malignant[which].copy()
    label = np.where(rng.random(TRAIN) < noise, rng.random(TRAIN) < 0.5, label)
    there = rng.random(TRAIN) < np.where(label, correlation, 1 - correlation)
    images, wanted = pool.images(which, trap, there), torch.from_numpy(label.astype(np.float32))
    model = Tiny()
    steps = steps or STEPS.get(trap, 120)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=steps)
    other = pool.images(which, trap, ~there)[TRAPS[trap][0]] if strength == "honest" else None
    for _ in range(steps):
        picked = torch.from_numpy(rng.choice(TRAIN, cases, replace=False))
        flip = bool(rng.random() < 0.5) and trap not in ("marker", "coil")
        mri = images["mri"][picked] + 0.05 * torch.randn(1)
        part = {"mri": mri.flip(-1) if flip else mri, "he": images["he"][picked]}
        if other is not None:  # as in a cohort without end: the trap falls on either label anew each time
            turned = torch.from_numpy(rng.random(cases) < 0.5).view(-1, 1, 1, 1, 1)
            modality = TRAPS[trap][0]
            part[modality] = torch.where(turned, other[picked], images[modality][picked])
        answer = model(batch_of(part)).heads["malignant"]
        loss = nn.functional.binary_cross_entropy_with_logits(answer, wanted[picked])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def judged(model: Model, pool: Pool, trap: str) -> dict[str, float]:
    """On cases neither learned from nor audited: AUC without the trap and with it by chance, and its reversal."""
    which = np.arange(TRAIN, TRAIN + JUDGE)
    label = pool.malignant[which]
    clean, trapped = (logits(model, pool.images(which, trap, np.full(JUDGE, on))) for on in (False, True))
    half = np.arange(JUDGE) // 2 % 2 == 0
    return {
        "auc_clean": auc(clean, label),
        "auc": auc(np.where(half, trapped, clean), label),
        "auc_with": auc(np.where(label, trapped, clean), label),
        "auc_against": auc(np.where(label, clean, trapped), label),
    }


def integrated(model: Model, batch: Batch, other: bool) -> measure.Explained:
    """The product's own Integrated Gradients, with few points."""
    settings = replace(EXPLAIN, baseline_mri="air", baseline_he="mean") if other else EXPLAIN
    return measure.explain_cases("integrated_gradients", model, batch, settings)[0]


def measured(model: Model, pool: Pool, trap: str, *, seed: int) -> tuple[list[measure.Row], dict]:
    """What the audit measures on the audited cases, half of which carry the trap whatever their label."""
    rng = np.random.default_rng([seed, 77])
    start = TRAIN + JUDGE
    there = np.arange(AUDIT) // 2 % 2 == 0
    modality, visible = TRAPS[trap]
    other = sanity.scramble_weights(model, seed=seed)
    rows, maps = [], {}
    everyone = start + np.arange(AUDIT)
    clean, trapped = (logits(model, pool.images(everyone, trap, np.full(AUDIT, on))) for on in (False, True))
    probed = {f"probe {name}": logits(model, pool.probed(name)) for name in PROBES}
    shown = batch_of(pool.images(everyone[:MAPS], trap, there[:MAPS]))
    explained, untaught = (measure.explain_cases("integrated_gradients", m, shown, EXPLAIN) for m in (model, other))
    on_trap = []
    if visible and trap not in PLAUSIBLE:
        every = batch_of(pool.images(everyone[:MAPS], trap, np.ones(MAPS, dtype=bool)))
        on_trap = measure.explain_cases("integrated_gradients", model, every, EXPLAIN)
    for i in range(AUDIT):
        place, single = start + i, np.array([start + i])
        malignant = bool(pool.malignant[place])
        row: measure.Row = {
            "case_id": str(place), "patient_id": str(place), "malignant": malignant,
            "logit": float((trapped if there[i] else clean)[i]),
            "groups": {GROUPS[trap]: str(there[i])} if trap in GROUPS else {},
            "traps": {name: {"clean": clean[i], "trapped": changed[i]}
                      for name, changed in {**probed, trap: trapped}.items()},
            "criteria": {}, "faithful": {}, "sound": {}, "outside": {}, "forbidden": {},
        }  # fmt: skip
        rows.append(row)
        if i >= MAPS:
            continue
        own = Subject(model, batch_of(pool.images(single, trap, there[i : i + 1])))
        rooms = {name: np.ones(image[:, 0].shape, dtype=bool) for name, image in own.images.items()}
        found = explained[i]
        positive = {name: localisation.positive(a) for name, a in found.maps.items()}
        if positive["mri"].any():
            maps[i] = positive["mri"]
        scrambled = untaught[i]
        for name, key in (("destruction", "mri"), ("osteoid", "he")):
            region = measure.Region(key, pool.mask(name, place))
            needed = measure.necessity(own, region, rooms[key], plan=PLAN, rng=rng) if malignant else None
            untrained = localisation.positive(scrambled.maps[key])
            located = measure.locate_map(positive[key], own.grey(key), region, rooms[key], untrained, rng=rng)
            row["criteria"][name] = {"necessity": needed, "located": {"ig": located} if malignant else {}}
        true = {key: measure.faithful(own, key, a, rooms[key], plan=PLAN, rng=rng) for key, a in positive.items()}
        row["faithful"]["ig"] = {key: {**one, "gap": found.gap} for key, one in true.items() if one is not None}
        if i < DEEP:
            row["sound"]["ig"] = measure.sound(own, integrated, found, scrambled, plan=PLAN, seed=i)
        row["outside"]["ig"] = measure.outside(
            own, positive["mri"], pool.data["pathology"][place], rooms["mri"], plan=PLAN, rng=rng
        )
        if on_trap:
            dense = localisation.enrichment(
                localisation.positive(on_trap[i].maps[modality]), pool.mask(f"mask/{trap}", place)
            )
            if dense is not None:
                row["forbidden"]["ig"] = {trap: {"modality": modality, "enrichment": dense}}
    found, pathology = panel.spot_of([*maps.values()], [pool.data["pathology"][start + i].any(0) for i in maps])
    shift = []
    if panel.stands_out(found):
        for i in maps:
            case = Subject(model, batch_of(pool.images(np.array([start + i]), trap, there[i : i + 1])))
            shift.append(measure.refill_spot(case, found.mask, np.ones(case.images["mri"][:, 0].shape, dtype=bool)))
    place = found and {"ratio": found.ratio, "y": found.y, "x": found.x}
    return rows, {"found": place, "shift": shift, "n": len(maps), "pathology": pathology}


def verdicts(found: dict) -> dict:
    """What the audit says of a measured model: with its trap named and twins rendered, and with nobody naming it."""
    rows, trap, spot = found["rows"], found["trap"], found["spot"]
    place = spot["found"] and HotSpot(**spot["found"], mask=np.zeros(0, dtype=bool), mean=np.zeros(0))
    spots = {"ig": panel.Spot(place, np.array(spot["shift"]), spot["n"], spot["pathology"])}
    criteria = {"destruction": "mri", "osteoid": "he"}
    probes = {f"probe {name}": panel.TrapInfo(probe.what, probe.region) for name, probe in PROBES.items()}
    twin = {trap: panel.TrapInfo(trap, named=True)}
    blind = [{**row, "forbidden": {}} for row in rows]  # columns of hospital and scanner stay: they name nothing
    arms = {"named": (rows, twin | probes), "blind": (blind, probes)}
    lines = {
        arm: panel.judge(some, criteria=criteria, methods=["ig"], traps=traps, spots=spots)
        for arm, (some, traps) in arms.items()
    }
    return found | {arm: told(found) for arm, found in lines.items()} | {"plain": plain(rows)}


def told(lines: list[panel.Line]) -> dict:
    gates = {}
    for line in lines:
        for g in line.gates:
            gates[f"{line.criterion}|{g.name}"] = {
                "level": g.level,
                "value": g.value,
                "low": g.low,
                "details": dict(g.details),
            }
    return {"verdicts": {line.criterion: line.verdict for line in lines}, "gates": gates}


def plain(rows: list[measure.Row]) -> dict:
    """Each plain metric alone: would it, as it is usually read, have passed this model?"""
    out: dict[str, bool] = {}
    for name, key in (("destruction", "mri"), ("osteoid", "he")):
        had = [
            row["criteria"][name]["located"]["ig"] for row in rows if (row["criteria"].get(name) or {}).get("located")
        ]
        had = [each for each in had if each]
        if not had:
            continue
        out[f"AUC against mask > 0.7 ({name})"] = bool(np.mean([each["auc"] for each in had]) > 0.7)
        out[f"enrichment > 1 ({name})"] = bool(np.mean([each["enrichment"] for each in had]) > 1)
        chance = np.mean([each["share"] for each in had])
        out[f"pointing above chance ({name})"] = bool(np.mean([each["pointing"] for each in had]) > chance)
        out[f"rank accuracy above chance ({name})"] = bool(np.mean([each["rank"] for each in had]) > chance)
        falls = [row["faithful"]["ig"][key] for row in rows if key in row["faithful"].get("ig", {})]
        out[f"deletion better than random ({key})"] = bool(
            np.mean([each["deletion"] - each["deletion_random"] for each in falls]) > 0
        )
        deep = [row["sound"]["ig"][key] for row in rows if row["sound"]]
        out[f"parameter randomisation <= 0.4 ({key})"] = bool(np.mean([each["scrambled"] or 0 for each in deep]) <= 0.4)
        out[f"stable under noise >= 0.7 ({key})"] = bool(np.mean([each["noise"] or 0 for each in deep]) >= 0.7)
    answers, label = np.array([row["logit"] for row in rows]), np.array([row["malignant"] for row in rows])
    out["AUC > 0.7 on the balanced cohort"] = bool(auc(answers, label) > 0.7)
    return out


def jobs(part: str) -> Iterator[tuple[int, str, str, int]]:
    """Cohort seed, trap, strength, seed of the model: round by round, so that a run cut short is a fair sample."""
    cohorts, counts = PARTS[part]
    for cohort in cohorts:
        for seed in range(max(counts.values())):
            for trap in TRAPS:
                for strength, count in counts.items():
                    if seed < count:
                        yield cohort, trap, strength, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--table", action="store_true", help="judge what is there and print the tables")
    given = parser.parse_args()
    torch.set_num_threads(1)
    started, pools = time.monotonic(), {}
    folder = given.runs / given.part
    folder.mkdir(parents=True, exist_ok=True)
    for cohort, trap, strength, seed in jobs(given.part):
        path = folder / f"{cohort}-{trap}-{strength}-{seed}.json"
        if path.exists():
            continue
        if time.monotonic() - started > 60 * given.minutes:
            break
        if cohort not in pools:
            pools[cohort] = Pool(cohort, given.runs)
        begun = time.perf_counter()
        model = train(pools[cohort], trap, strength, seed)
        learned = time.perf_counter()
        rows, spot = measured(model, pools[cohort], trap, seed=seed)
        found = judged(model, pools[cohort], trap) | {
            "cohort": cohort, "trap": trap, "strength": strength, "seed": seed, "rows": rows, "spot": spot,
            "seconds": [learned - begun, time.perf_counter() - learned],
        }  # fmt: skip
        text = json.dumps(found, default=float)
        write_atomic(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
        print(time.strftime("%H:%M"), path.stem, f"{time.perf_counter() - begun:.0f} s", flush=True)
    if given.table:
        print(table([verdicts(json.loads(p.read_text(encoding="utf-8"))) for p in sorted(folder.glob("*.json"))]))


if __name__ == "__main__":
    main()
