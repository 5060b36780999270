"""What makes an answer's doubt honest, kept beside the weights: temperature, conformal limits, clouds of features.

A safetensors file named after the weights it was fitted for; it refuses others. cmssd calibrate makes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from cmssd_core.evaluation.distance import Cloud
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.types import InputError

SUFFIX = ".calibration.safetensors"
LABELS = ("benign", "malignant")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of answers given one set of modalities; fitted on n cases.

    temperature: divides the malignancy logit. set_limit: by true label, the largest 1 - p of a label that is kept in
    the set. severity_half: by called label, half the severity interval in points. None = too few cases to promise it.
    """

    n: int
    temperature: float
    set_limit: Mapping[str, float | None]
    severity_half: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Fitted for the weights `model_id`. given: "both", "mri", "he" -> Limits. clouds: "mri", "he" -> Cloud.

    coverage: nominal, of severity intervals and label sets. fitted_on: in words. digest: of the file, for content keys.
    """

    model_id: str
    fitted_on: str
    coverage: float
    given: Mapping[str, Limits]
    clouds: Mapping[str, Cloud] = field(default_factory=dict)
    digest: str = ""


def path_of(weights: Path) -> Path:
    """Where the calibration of a weights file lies."""
    return weights.with_name(weights.stem + SUFFIX)


def save(calibration: Calibration, path: Path) -> None:
    """Write it whole or not at all. Raises InputError where the folder cannot be written to."""
    arrays = {}
    for name, cloud in calibration.clouds.items():
        arrays[f"{name}.means"] = np.ascontiguousarray(cloud.means, dtype=np.float32)
        arrays[f"{name}.precision"] = np.ascontiguousarray(cloud.precision, dtype=np.float32)
    summary = {
        "model_id": calibration.model_id,
        "fitted_on": calibration.fitted_on,
        "coverage": calibration.coverage,
        "given": {name: asdict(limits) for name, limits in calibration.given.items()},
        "clouds": {name: cloud.limit for name, cloud in calibration.clouds.items()},
    }

    def write(part: Path) -> None:
        save_file(arrays or {"none": np.zeros(1, np.float32)}, str(part), metadata={"calibration": json.dumps(summary)})
        part.chmod(0o644)

    write_atomic(path, write)


def load(weights: Path, model_id: str) -> Calibration | None:
    """The calibration beside a weights file, None where there is none. Raises InputError for that of other weights."""
    path = path_of(weights)
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), "np") as opened:
            summary = json.loads((opened.metadata() or {})["calibration"])
        arrays = load_file(str(path))
        found = Calibration(
            model_id=summary["model_id"],
            fitted_on=summary["fitted_on"],
            coverage=float(summary["coverage"]),
            given={name: Limits(**limits) for name, limits in summary["given"].items()},
            clouds={
                name: Cloud(
                    arrays[f"{name}.means"].astype(np.float64),
                    arrays[f"{name}.precision"].astype(np.float64),
                    float(limit),
                )
                for name, limit in summary["clouds"].items()
            },
            digest=hashlib.sha256(path.read_bytes()).hexdigest()[:12],
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path.name} cannot be read; run cmssd calibrate anew, or remove it") from None
    if found.model_id != model_id:
        raise InputError(
            f"{path.name} was fitted for {found.model_id}, the weights beside it are {model_id}; run cmssd calibrate "
            "anew, or remove it"
        )
    return found
