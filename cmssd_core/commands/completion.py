"""What a shell proposes behind a flag when one presses Tab: names of models, methods, splits and the like."""

from __future__ import annotations

from collections.abc import Callable

from cmssd_core.weights.offer import list_models

# Said here a second time, because the tables behind them bring torch and a shell doesn't wait; a test compares.
METHODS = ("gate", "gradcam", "integrated_gradients", "smoothgrad", "occlusion", "kernel_shap", "lime")
SHARES = ("criterion_ablation", "modality_shapley")
TARGETS = ("malignant", "benign", "severity", "hazard")
SPLITS = ("test", "val", "all")
DROPS = ("mri", "he")

Complete = Callable[[str], list[str]]


def propose(*names: str) -> Complete:
    """Proposes those of the names that begin as what is typed does."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def propose_model(incomplete: str) -> list[str]:
    """The models of this version."""
    return propose(*dict.fromkeys(offer.name for offer in list_models()))(incomplete)


def propose_size(incomplete: str) -> list[str]:
    """The sizes of this version's models."""
    return propose(*dict.fromkeys(offer.size for offer in list_models()))(incomplete)


def propose_models(incomplete: str) -> list[str]:
    """One more model behind those of a comma-separated list."""
    before, comma, last = incomplete.rpartition(",")
    listed = before.split(",")
    return [f"{before}{comma}{name}" for name in propose_model(last) if name not in listed]


def propose_contrast(incomplete: str) -> list[str]:
    """The beginning of NAME=PATH; the path is the shell's own matter."""
    from cmssd_core.volume.contrasts import CONTRASTS

    return propose(*(f"{name}=" for name in CONTRASTS))(incomplete)
