"""What copies a Batch: every tensor is changed alike, and what is put together again is what was taken apart."""

from __future__ import annotations

import torch
from batches import PAIR, random_batch
from hypothesis import given
from hypothesis import strategies as st

from cmssd_core.batches import device_of, map_tensors, move_batch, repeat_batch, select_case, with_inputs
from cmssd_core.models.spec import ProfileSpec
from cmssd_core.types import Batch

PARTS = ("inputs", "valid", "present", "geometry")
SPEC = {**PAIR, "rna": ProfileSpec(genes=("TP53", "RB1"))}
SIZES = st.integers(1, 4)


def small(cases: int, *, seed: int = 0) -> Batch:
    return random_batch(SPEC, cases=cases, slices=2, patches=2, px=4, seed=seed)


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {f"{part} {name}": tensor for part in PARTS for name, tensor in getattr(batch, part).items()}


def same(one: Batch, other: Batch) -> bool:
    mine, theirs = tensors(one), tensors(other)
    return (
        one.ids == other.ids
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[name], theirs[name]) and mine[name].dtype == theirs[name].dtype for name in mine)
    )


@given(SIZES)
def test_a_map_reaches_every_tensor_once(cases: int) -> None:
    batch, seen = small(cases), []

    def change(tensor: torch.Tensor) -> torch.Tensor:
        seen.append(tensor)
        return ~tensor if tensor.dtype == torch.bool else tensor + 1

    changed = map_tensors(batch, change)
    assert [id(t) for t in seen] == [id(t) for t in tensors(batch).values()]
    assert all(torch.equal(tensors(changed)[name], ~t if t.dtype == torch.bool else t + 1)
               for name, t in tensors(batch).items())  # fmt: skip
    assert changed.ids == batch.ids
    assert same(map_tensors(batch, lambda tensor: tensor), batch)


@given(SIZES, SIZES)
def test_a_repeated_batch_is_its_cases_copy_by_copy(cases: int, copies: int) -> None:
    batch = small(cases)
    whole = repeat_batch(batch, copies)
    assert whole.ids == batch.ids * copies
    assert all(len(tensor) == cases * copies for tensor in tensors(whole).values())
    for row in range(cases * copies):
        assert same(select_case(whole, row), select_case(batch, row % cases))


@given(SIZES)
def test_the_cases_of_a_batch_one_by_one_are_the_batch(cases: int) -> None:
    batch = small(cases)
    rows = [tensors(select_case(batch, row)) for row in range(cases)]
    for name, tensor in tensors(batch).items():
        assert torch.equal(torch.cat([row[name] for row in rows]), tensor)
    assert tuple(one for row in range(cases) for one in select_case(batch, row).ids) == batch.ids


@given(SIZES)
def test_other_inputs_change_no_other_modality(cases: int) -> None:
    batch, other = small(cases), small(cases, seed=1)
    changed = with_inputs(batch, {"he": other.inputs["he"]})
    assert torch.equal(changed.inputs["he"], other.inputs["he"])
    assert same(with_inputs(changed, {"he": batch.inputs["he"]}), batch)


def test_a_moved_batch_is_where_it_was_moved_to() -> None:
    batch = small(2)
    moved = move_batch(batch, torch.device("meta"))
    assert {tensor.device.type for tensor in tensors(moved).values()} == {"meta"}
    assert device_of(moved).type == "meta"
    assert device_of(batch).type == "cpu"
