"""Where torch computes: the device that the settings ask for."""

from __future__ import annotations

import torch

from cmssd_core.config import Settings
from cmssd_core.types import InputError


def choose_device(settings: Settings) -> torch.device:
    """The CUDA device where it is wanted, or on "auto" where there is one; else the CPU. Raises InputError for none."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError("CMSSD_DEVICE=cuda came, but torch sees no CUDA device; set it to auto or cpu")
    wanted = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if wanted else "cpu")
