"""Weights on disk: safetensors that say which model and size they are, how to prepare its inputs, and what they saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from cmssd_core.machine.atomic import write_atomic
from cmssd_core.models import MODELS
from cmssd_core.models.base import Model
from cmssd_core.models.spec import InputSpec, PatchSpec, ProfileSpec, Spec, VolumeSpec, contrasts_of
from cmssd_core.profile.statistics import ProfileStatistics
from cmssd_core.types import InputError
from cmssd_core.volume.contrasts import CONTRASTS

SHIPPED = Path(__file__).parents[1] / "weights"
DEFAULT = SHIPPED / "cmssd-compact.safetensors"
SCALE = ".scale"  # ends the name of an 8-bit weight's scales


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """What a weights file says of itself. trained: data and purpose, in words, shown beside every number."""

    model: str
    size: str
    trained: str
    spec: Spec

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

    def write(part: Path) -> None:
        save_file(tensors, str(part), metadata={"cmssd": _stated(info)})
        part.chmod(0o644)  # safetensors makes files for their owner alone; weights are shared

    write_atomic(path, write)


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
        raise InputError(f"no weights at {path.name}; expected a .safetensors file of cmssd train; check the path")
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
    _check_fits(info, model.spec, path)
    try:
        model.load_state_dict(_in_float32(tensors))
    except RuntimeError:
        raise InputError(f"{path.name} does not fit {info.name} of this version; train anew or update") from None
    model.spec = info.spec
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return model.eval(), info, f"{info.name}-{digest}"


def _check_fits(info: WeightsInfo, spec: Spec, path: Path) -> None:
    """Raises InputError where a header's spec is for other inputs than its model's network takes."""
    own, stated = contrasts_of(spec), contrasts_of(info.spec)
    if set(info.spec) != set(spec) or len(stated) != len(own) or len(set(stated)) != len(stated):
        raise InputError(
            f"{path.name} says it reads {_in_words(info.spec)}, and {info.name} is a network for {_in_words(spec)}; "
            "the two disagree; copy the file anew"
        )


def _in_words(spec: Spec) -> str:
    """The inputs of a spec by name, contrasts and all."""
    parts = [
        f"{one.label} ({', '.join(one.contrasts)})" if isinstance(one, VolumeSpec) else one.label
        for one in spec.values()
    ]
    return " and ".join(parts) or "nothing"


def _stated(info: WeightsInfo) -> str:
    """The cmssd header of a weights file."""
    spec = {name: asdict(one) for name, one in info.spec.items()}
    return json.dumps({"model": info.model, "size": info.size, "trained": info.trained, "spec": spec})


def _info(stated: str, path: Path) -> WeightsInfo:
    """The cmssd header as it was written by `save`; anything else is refused."""
    try:
        header = json.loads(stated)
        info = WeightsInfo(spec=_spec(header.pop("spec"), str(header["model"])), **header)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        words = f"{type(problem).__name__}: {problem}"
        raise InputError(
            f"{path.name} has a cmssd header that cannot be read ({words}); expected one that this version of cmssd "
            "train writes; copy the file anew, or update the program"
        ) from None
    fit = all(isinstance(text, str) for text in (info.model, info.size, info.trained))
    if not fit or not all(_sound(one) for one in info.spec.values()):
        raise InputError(
            f"{path.name} has a cmssd header with a value of the wrong kind; expected one that cmssd train writes; "
            "copy the file anew"
        )
    return info


def _spec(given: dict[str, Any], model: str) -> Spec:
    """The spec of a header, of this version or of 0.1, where one flat table held an MRI's and a slide's together."""
    if "mri_px" in given:
        unknown = set(given) - {"contrasts", "mri_px", "mri_spacing_mm", "patch_px", "patch_mpp"}
        if unknown:
            raise KeyError(", ".join(sorted(unknown)))
        flat = {
            "mri": {"contrasts": given["contrasts"], "px": given["mri_px"], "spacing_mm": given["mri_spacing_mm"]},
            "he": {"px": given["patch_px"], "mpp": given["patch_mpp"]},
        }
        needs = MODELS[model].needs if model in MODELS else tuple(flat)
        given = {name: flat[name] for name in needs}
    return {name: SPECS[name](**_tuples(one)) for name, one in given.items()}


def _profile_spec(*, genes: tuple[str, ...], statistics: dict[str, Any] | None) -> ProfileSpec:
    fitted = None if statistics is None else ProfileStatistics(**_tuples(statistics))
    return ProfileSpec(genes=genes, statistics=fitted)


def _tuples(given: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _sound(spec: InputSpec) -> bool:
    """Whether every value of a spec is of its kind."""
    if isinstance(spec, ProfileSpec):
        return _names(spec.genes)
    if isinstance(spec, PatchSpec):
        return _pixels(spec.px) and _number(spec.mpp, low=0)
    known = _names(spec.contrasts) and set(spec.contrasts) <= set(CONTRASTS)
    return known and _pixels(spec.px) and _number(spec.spacing_mm, low=0)


def _names(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def _pixels(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _number(value: object, *, low: float = float("-inf")) -> bool:
    return isinstance(value, (int, float)) and low < value < float("inf")


#: Spec classes by modality, as they stand in a header.
SPECS: dict[str, Callable[..., InputSpec]] = {
    "mri": VolumeSpec, "he": PatchSpec, "rna": _profile_spec
}  # fmt: skip
