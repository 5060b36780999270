"""Weights on disk: safetensors that say which model and size they are, how to prepare its inputs, and what they saw."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from cmssd_core.models import MODELS
from cmssd_core.models.base import InputSpec, Model
from cmssd_core.types import CONTRASTS, InputError

SHIPPED = Path(__file__).parent / "weights"
DEFAULT = SHIPPED / "cmssd-compact.safetensors"
SCALE = ".scale"  # ends the name of an 8-bit weight's scales


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """What a weights file says of itself. trained: data and purpose, in words, shown beside every number."""

    model: str
    size: str
    trained: str
    spec: InputSpec

    @property
    def name(self) -> str:
        """Model and size, e.g. "cmssd-compact"."""
        return f"{self.model}-{self.size}"


def save(model: Model, path: Path, *, info: WeightsInfo, dtype: torch.dtype = torch.float16) -> None:
    """Write a model's weights, whole or not at all; floating-point tensors as `dtype`.

    torch.int8: weights of convolutions and linear layers in 8 bits with a scale for each output channel, the rest in
    half precision.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if dtype == torch.int8 and tensor.ndim >= 2:
            tensors[name], tensors[name + SCALE] = _in_eight_bits(tensor.detach().cpu())
        else:
            kept = torch.float16 if dtype == torch.int8 else dtype
            tensors[name] = tensor.detach().to("cpu", kept).contiguous()
    part = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, str(part), metadata={"cmssd": json.dumps(asdict(info))})
    part.chmod(0o644)  # safetensors makes files for their owner alone; weights are shared
    part.replace(path)


def _in_eight_bits(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps of scale in [-127, 127], int8, and the scale of each output channel, float32 (channel,)."""
    scale = (tensor.float().flatten(1).abs().amax(1) / 127).clamp(min=1e-12)
    steps = (tensor.float() / scale.view(-1, *[1] * (tensor.ndim - 1))).round().clamp(-127, 127)
    return steps.to(torch.int8).contiguous(), scale


def _in_float32(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights a file holds, whatever it holds them in."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        scale = tensors.get(name + SCALE)
        wide = tensor.float()
        out[name] = wide if scale is None else wide * scale.float().view(-1, *[1] * (tensor.ndim - 1))
    return out


def load(path: Path) -> tuple[Model, WeightsInfo, str]:
    """The model with its weights in float32, eval mode, what the file says, and its id: name + hash of the bytes.

    Raises InputError where the file is missing, damaged, not ours, or does not fit the model it names.
    """
    if not path.is_file():
        raise InputError(f"no weights at {path.name}; expected a .safetensors file of cmssd train; check --weights")
    try:
        with safe_open(str(path), "pt") as opened:
            stated = (opened.metadata() or {}).get("cmssd")
        tensors = load_file(str(path))
    except (SafetensorError, OSError) as problem:
        raise InputError(f"{path.name} is no readable safetensors file ({problem}); copy it anew") from None
    if stated is None:
        raise InputError(f"{path.name} was not made by cmssd; expected weights with a cmssd header; give others")
    info = _info(stated, path)
    if info.model not in MODELS or info.size not in MODELS[info.model].sizes:
        raise InputError(f"{path.name} is for {info.name}, which this version does not have; update the program")
    model = MODELS[info.model](info.size)
    try:
        model.load_state_dict(_in_float32(tensors))
    except RuntimeError:
        raise InputError(f"{path.name} does not fit {info.name} of this version; train anew or update") from None
    model.spec = info.spec
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return model.eval(), info, f"{info.name}-{digest}"


def _info(stated: str, path: Path) -> WeightsInfo:
    """The cmssd header as it was written by `save`; anything else is refused."""
    try:
        header = json.loads(stated)
        given = header.pop("spec")
        spec = InputSpec(**{**given, "contrasts": tuple(given["contrasts"])})
        info = WeightsInfo(spec=spec, **header)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        words = f"{type(problem).__name__}: {problem}"
        raise InputError(
            f"{path.name} has a cmssd header that cannot be read ({words}); expected one that this version of cmssd "
            "train writes; copy the file anew, or update the program"
        ) from None
    sizes = (spec.mri_px, spec.mri_spacing_mm, spec.patch_px, spec.patch_mpp)
    fit = all(isinstance(text, str) for text in (info.model, info.size, info.trained))
    fit = fit and all(isinstance(size, (int, float)) and 0 < size < float("inf") for size in sizes)
    if not fit or not set(map(str, spec.contrasts)) <= set(CONTRASTS):
        raise InputError(
            f"{path.name} has a cmssd header with a value of the wrong kind; expected one that cmssd train writes; "
            "copy the file anew"
        )
    return info
