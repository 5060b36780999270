"""What an audit measures on one case, as plain numbers: traps, criteria, maps against both, maps against the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation

from cmssd_core.audit.gates import faithfulness, localisation, stability
from cmssd_core.audit.subject import Subject
from cmssd_core.explain import methods, sanity
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.models.base import Model
from cmssd_core.types import Batch

Mask = npt.NDArray[np.bool_]
Map = npt.NDArray[np.floating[Any]]
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Explained:
    """A method's maps of one case: signed, (image, y, x) by modality; gap: completeness residual, if any."""

    maps: Mapping[str, Map]
    gap: float | None = None


#: model, one case, whether the other baseline is to be used -> maps; None where the method has no other baseline
Explain = Callable[[Model, Batch, bool], Explained | None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured. shifts: copies of a criterion elsewhere; noise: draws of it; block: edge of a tile, pixels.

    cascade: networks between the trained and the scrambled one. noise_mri in standard deviations, noise_he in shares of
    white: what nobody sees.
    """

    shifts: int = 10
    noise: int = 3
    cascade: int = 1
    block: Mapping[str, int] = field(default_factory=lambda: {"mri": 8, "he": 16})
    noise_mri: float = 0.05
    noise_he: float = 0.01
    near_px: int = 3  # this near to bone or lesion is not outside of them
    outside_share: float = 0.02  # of the room, the map's highest places outside that are filled


@dataclass(frozen=True, eq=False)
class Region:
    """A mask (image, y, x) on a case's prepared images."""

    modality: str
    mask: Mask


@dataclass(frozen=True, eq=False)
class Trapped:
    """A case with a trap on it, and where that lies on its prepared images."""

    batch: Batch
    region: Region


def necessity(subject: Subject, region: Region, room: Mask, *, plan: Plan, rng: np.random.Generator) -> Row | None:
    """Fall of the answer when a criterion is filled, and when its copies elsewhere are; None where it fills nothing."""
    mask = region.mask & room
    elsewhere = localisation.shift_mask(mask, room, count=plan.shifts, rng=rng)
    if not mask.any() or not elsewhere:
        return None
    nothing = np.zeros_like(mask)
    found = subject.filled(region.modality, [nothing, mask, *elsewhere], subject.plain(region.modality, room & ~mask))
    falls = found[0] - found[1:]
    return {"fall": float(falls[0]), "elsewhere": float(falls[1:].mean()), "share": localisation.share(mask, room)}


def locate_map(
    a: Map, grey: Map, region: Region, room: Mask, untrained: Map | None, *, rng: np.random.Generator
) -> Row | None:
    """Each measure of a map on a criterion, and of the controls; None where the criterion fills nothing."""
    mask = region.mask & room
    found = {name: measure(a, mask, room) for name, measure in localisation.MEASURES.items()}
    if found["enrichment"] is None:
        return None
    others = localisation.controls(grey, dark=region.modality == "he", rng=rng)
    if untrained is not None:
        others["untrained"] = untrained
    table = {
        name: {measure: MEASURE(other, mask, room) for measure, MEASURE in localisation.MEASURES.items()}
        for name, other in others.items()
    }
    return {**found, "share": localisation.share(mask, room), "controls": table}


def faithful(
    subject: Subject,
    modality: str,
    signed: Map,
    room: Mask,
    *,
    plan: Plan,
    rng: np.random.Generator,
    deep: bool = False,
) -> Row | None:
    """Deletion of a map's highest tiles against random ones; None for an empty map, which points at nothing.

    deep: insertion likewise, and infidelity: how badly the signed map foretells the falls by filling random tenths.
    """
    a, block = localisation.positive(signed), plan.block[modality]
    if not a.any():
        return None
    fill = subject.plain(modality, room)

    def answers(masks: Any) -> npt.NDArray[np.float64]:
        return subject.filled(modality, list(masks), fill)

    fall, random_fall = faithfulness.deletion(a, answers, block=block, rng=rng)
    found = {"deletion": fall, "deletion_random": random_fall}
    if deep:
        rise, random_rise = faithfulness.insertion(a, answers, block=block, rng=rng)
        changes, falls = _foretold(signed, answers, block=block, rng=rng)
        found |= {"insertion": rise, "insertion_random": random_rise}
        found["infidelity"] = faithfulness.infidelity(changes, falls)
    return found


def _foretold(
    signed: Map, answers: faithfulness.Answers, *, block: int, rng: np.random.Generator, draws: int = 8
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What a map says that filling random tenths of its tiles takes from the answer, and what it takes."""
    shape = (signed.shape[0], signed.shape[1], signed.shape[2])
    tiles = len(faithfulness.block_order(signed, block))
    picks = [rng.choice(tiles, max(1, tiles // 10), replace=False) for _ in range(draws)]
    masks = [faithfulness.block_mask(shape, block, pick) for pick in picks]
    found = answers([np.zeros(shape, dtype=bool), *masks])
    return np.array([float(signed[mask].sum()) for mask in masks]), found[0] - found[1:]


def outside(
    subject: Subject, a: Map, pathology: Mask, room: Mask, *, plan: Plan, rng: np.random.Generator
) -> Row | None:
    """Shift of the answer when the map's highest MRI places away from bone and lesion are filled, and random ones.

    pathology: bone and lesion (slice, y, x). None where the map shows nothing away from them.
    """
    near = binary_dilation(pathology, np.ones((1, 2 * plan.near_px + 1, 2 * plan.near_px + 1)))
    free = ~near
    if not a[free].any():
        return None
    block = max(2, plan.block["mri"] // 2)
    shape = (a.shape[0], a.shape[1], a.shape[2])
    count = max(1, round(plan.outside_share * a.size / block**2))
    tiles = [faithfulness.block_order(order * free, block)[:count] for order in (a, *rng.random((3, *shape)))]
    masks = [faithfulness.block_mask(shape, block, some) & free for some in tiles]
    found = subject.filled("mri", [np.zeros(shape, dtype=bool), *masks], subject.plain("mri", room))
    falls = found[0] - found[1:]
    return {"fall": float(falls[0]), "elsewhere": float(np.abs(falls[1:]).mean())}


def sound(
    subject: Subject,
    explain: Explain,
    own: Explained,
    scrambled: Explained | None,
    *,
    plan: Plan,
    seed: int,
    cascade: Mapping[str, Explained] | None = None,
) -> dict[str, Row]:
    """A method's maps by modality against a scrambled network's, under noise, and from another baseline.

    cascade: maps of networks scrambled from the answer down, by the part that was scrambled last.
    """
    noisy = [
        explain(subject.model, subject.noised(mri=plan.noise_mri, he=plan.noise_he, seed=seed + draw), False)
        for draw in range(plan.noise)
    ]
    other = explain(subject.model, subject.batch, True)
    found: dict[str, Row] = {}
    for modality, a in own.maps.items():
        shaken = [each.maps[modality] for each in noisy if each is not None]
        found[modality] = {
            "scrambled": sanity.spearman(np.abs(a), np.abs(scrambled.maps[modality])) if scrambled else None,
            "cascade": {
                part: sanity.spearman(np.abs(a), np.abs(each.maps[modality])) for part, each in (cascade or {}).items()
            },
            "noise": stability.agreement(a, shaken),
            "sensitivity_max": stability.sensitivity_max(a, shaken),
            "baselines": stability.agreement(a, [other.maps[modality]]) if other is not None else None,
        }
    return found


def explain_cases(method: str, model: Model, batch: Batch, settings: ExplainSettings) -> list[Explained]:
    """A method's maps of each case of a batch: signed, summed over contrasts, (image, y, x)."""
    found = methods.explain_batch(batch, model, method, settings=settings)
    out = []
    for case in range(len(batch.ids)):
        maps = {name: a[case].double().cpu().numpy() for name, a in found.maps.items()}
        maps = {name: a.sum(1) if a.ndim == 4 else a for name, a in maps.items()}
        gap = None if found.gap is None or bool(found.gap[case].isnan()) else float(found.gap[case])
        out.append(Explained(maps, gap))
    return out


def refill_spot(subject: Subject, spot: Mask, room: Mask) -> float:
    """How many logits further the answer moves when a spot (y, x) of all slices is filled than its mirror image."""
    shape = subject.images["mri"][:, 0].shape
    present = np.broadcast_to(spot, shape)
    masks = [np.zeros(shape, dtype=bool), present, np.ascontiguousarray(present[:, ::-1, ::-1])]
    answers = subject.filled("mri", masks, subject.plain("mri", room))
    return float(abs(answers[1] - answers[0]) - abs(answers[2] - answers[0]))


def readers(mask: Mask, second: Mask) -> Row:
    """How far two readers agree on a criterion: Dice, and the second's outline scored as if it were a map."""
    both = int((mask & second).sum())
    size = int(mask.sum()) + int(second.sum())
    as_map = {name: measure(second.astype(float), mask, None) for name, measure in localisation.MEASURES.items()}
    return {"dice": 2 * both / size if size else None, **as_map}
