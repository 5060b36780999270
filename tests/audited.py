"""An audit.json from the gates' own functions over made-up cases: of an honest model or of a cheat."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cmssd_core.audit.gates import checks as gates
from cmssd_core.audit.gates.verdict import verdict


def told(case_ids: list[str], *, cheat: bool) -> dict[str, Any]:
    """One verdict a criterion and method; a cheat's answer moves with a marker, and its map misses the criterion."""
    rng, n = np.random.default_rng(3), len(case_ids)
    malignant = np.arange(n) % 2 == 0
    answers = np.where(malignant, 2.0, -2.0) + rng.normal(0, 1, n)
    score = rng.normal(1.0 if cheat else 6.0, 0.5, n)
    controls = {name: rng.normal(2.0, 0.3, n) for name in ("random", "centre", "edge", "brightness", "untrained")}
    moved = answers + (8.0 if cheat else 0.05)
    shared = [
        gates.works(answers, malignant),
        gates.trap("marker", answers, moved, malignant, spread=float(answers.std()), what="a marker in the corner"),
        gates.faithful(rng.normal(2, 0.3, n), rng.normal(0.5, 0.3, n), np.full(n, 0.02)),
        gates.sane(rng.normal(0.1, 0.05, n)),
        gates.stable(rng.normal(0.9, 0.02, n), rng.normal(0.8, 0.02, n), rng.normal(0.3, 0.02, n)),
    ]
    needed = gates.necessity(rng.normal(0.1 if cheat else 2.0, 0.2, n), rng.normal(0.0, 0.2, n))
    own = [*shared[:2], needed, gates.localisation(score, controls), *shared[2:]]
    concluded, reason = verdict(own)
    absent = [gates.works(answers, malignant), gates.necessity(np.array([]), np.array([]))]
    said = [
        {"criterion": "cortical_destruction", "modality": "mri", "method": "integrated_gradients", "verdict": concluded,
         "reason": reason, "gates": [asdict(g) | {"passed": g.passed} for g in own]},
        {"criterion": "osteoid", "modality": "he", "method": "integrated_gradients", "verdict": "NOT ASSESSABLE",
         "reason": "no case has a mask", "gates": [asdict(g) | {"passed": g.passed} for g in absent]},
    ]  # fmt: skip
    cases = [
        {"case_id": name, "criteria": {"cortical_destruction": {"located": {"integrated_gradients": {
            "enrichment": float(score[i]),
            "controls": {key: {"enrichment": float(value[i])} for key, value in controls.items()}}}}}}
        for i, name in enumerate(case_ids)
    ]  # fmt: skip
    return {
        "overall": concluded,
        "model_id": "cmssd-compact-test",
        "trained": "made up",
        "verdicts": said,
        "cases": cases,
    }


def write(folder: Path, case_ids: list[str], *, cheat: bool) -> Path:
    """Writes audit.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(json.dumps(told(case_ids, cheat=cheat)), encoding="utf-8")
    return folder / "audit.json"
