"""The quartet: an honest, a partly cheating, a cheating and an untrained network, trained here, and their verdicts.

The networks and the audit are the power bench's; the patients are drawn with a few rectangles, so that seconds do.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments import audit_power as bench

CASES = bench.TRAIN + bench.JUDGE + bench.AUDIT


class Rectangles(bench.Pool):
    """A pool of cases with a bone, a breach beside it and osteoid in the malignant ones, and a block in the corner."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.malignant = np.arange(CASES) % 2 == 0
        size, patch = bench.MRI.px, bench.PATCH_PX
        mri = rng.normal(0, 0.3, (CASES, 4, 2, size, size)).astype(np.float16)
        mri[..., 17:23] += 1
        breach, osteoid = np.zeros((CASES, 4, size, size), bool), np.zeros((CASES, 9, patch, patch), bool)
        he = rng.normal([200, 150, 190], 10, (CASES, 9, patch, patch, 3))
        for case in np.flatnonzero(self.malignant):
            if rng.random() < 0.6:  # a sign is missing in some, so that a trap pays
                row = int(rng.integers(8, 30))
                breach[case, 1:3, row : row + 5, 23:28] = True
            for tile in rng.choice(9, 6, replace=False) if rng.random() < 0.4 else ():
                y, x = rng.integers(0, patch - 8, 2)
                osteoid[case, tile, y : y + 8, x : x + 8] = True
        mri[np.broadcast_to(breach[:, :, None], mri.shape)] += 2
        he[osteoid] += [30, -40, -50]
        bone = np.zeros_like(breach)
        bone[..., 17:23] = True
        marked, where = mri.copy(), np.zeros_like(breach)
        where[..., 2:5, 2:6] = True
        marked[..., 2:5, 2:6] = 5
        audited = slice(bench.TRAIN + bench.JUDGE, None)
        clean = he.clip(0, 255).astype(np.uint8)
        self.data = {
            "mri/clean": mri, "he/clean": clean, "mri/marker": marked, "mask/marker": where,
            "destruction": breach, "osteoid": osteoid, "pathology": bone | breach,
        }  # fmt: skip
        for name, probe in bench.PROBES.items():
            self.data[f"{probe.modality}/probe {name}"] = (mri if probe.modality == "mri" else clean)[audited]

        class Seed:
            seed = 5

        self.settings = Seed()  # type: ignore[assignment]


@pytest.fixture(scope="module")
def pool() -> Rectangles:
    torch.set_num_threads(1)
    return Rectangles()


def verdicts(model: bench.Tiny, pool: Rectangles) -> dict:
    rows, spot = bench.measured(model, pool, "marker", seed=0)
    return bench.verdicts({"rows": rows, "spot": spot, "trap": "marker"})


def gates(found: dict, arm: str) -> set[str]:
    return {name.split("|")[1] for name, gate in found[arm]["gates"].items() if gate["level"] == "fail"}


def test_an_honest_model_works_and_does_not_fail(pool: Rectangles) -> None:
    found = verdicts(bench.train(pool, "marker", "honest", 0, steps=240), pool)
    assert not gates(found, "named")
    assert not gates(found, "blind")
    assert found["plain"]["AUC > 0.7 on the balanced cohort"]


@pytest.mark.parametrize("strength", ["middle", "strong"])
def test_a_model_that_cheats_fails_naming_the_trap_and_without_anybody_naming_it(
    pool: Rectangles, strength: str
) -> None:
    model = bench.train(pool, "marker", strength, 0)
    judged = bench.judged(model, pool, "marker")
    assert judged["auc_with"] - judged["auc_against"] >= 0.1  # else it is no cheat
    found = verdicts(model, pool)
    assert set(found["named"]["verdicts"].values()) == {"FAIL"}
    assert "G1 marker" in gates(found, "named")
    if strength == "strong":
        assert "FAIL" in found["blind"]["verdicts"].values()
        assert gates(found, "blind") & {"G8 hot spot", "G8 outside"}


def test_an_untrained_model_fails(pool: Rectangles) -> None:
    torch.manual_seed(0)
    found = verdicts(bench.Tiny().eval(), pool)
    assert set(found["named"]["verdicts"].values()) == {"FAIL"}
    assert "G0" in gates(found, "named")
