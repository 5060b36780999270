"""Cases as a Batch: padding, what is missing, and a batch without a modality as the cases without it make it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmssd_core.cases.collate import collate, hide_modalities
from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.cases.tensors import channels, neighbours
from cmssd_core.models.spec import PatchSpec, ProfileSpec, VolumeSpec
from cmssd_core.types import Batch, Case, PatchBag, Profile, Volume

PX = 4
SPEC = {
    name: one
    for name, one in {
        "mri": VolumeSpec(contrasts=("t1", "t2"), px=PX, spacing_mm=2.0),
        "he": PatchSpec(px=PX, mpp=1.0),
        "rna": ProfileSpec(genes=("TP53", "RB1")),
    }.items()
    if name in MODALITIES
}


def case(names: tuple[str, ...], *, slices: int = 2, patches: int = 3, seed: int = 0, site: bool = True) -> Case:
    """A prepared case of these modalities, of random numbers."""
    rng = np.random.default_rng(seed)
    inputs = {}
    if "mri" in names:
        voxels = rng.normal(size=(2, slices, PX, PX)).astype(np.float32)
        inputs["mri"] = Volume(voxels, np.diag([2.0, 2.0, 5.0, 1.0]), ("t1", "t2"))
    if "he" in names:
        pixels = rng.integers(0, 256, (patches, PX, PX, 3)).astype(np.uint8)
        where = (2.0, 2.0, 5.0) if site and "mri" in names else None
        inputs["he"] = PatchBag(pixels, rng.integers(0, 99, (patches, 2)), 1.0, 0.5, where)
    if "rna" in names:
        inputs["rna"] = Profile(rng.normal(size=2).astype(np.float32), ("TP53", "RB1"), "log1p tpm")
    return Case(f"case-{seed}", inputs)


def same(one: Batch, other: Batch) -> None:
    assert one.ids == other.ids
    for part in ("inputs", "valid", "present", "geometry"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert mine.keys() == theirs.keys(), part
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=0)
            assert mine[name].dtype == theirs[name].dtype


HIDDEN = [names for n in range(1, len(SPEC)) for names in combinations(SPEC, n)]


@pytest.mark.parametrize("names", HIDDEN)
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 50), st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3))
def test_a_batch_without_modalities_is_that_of_the_cases_without_them(
    names: tuple[str, ...], seed: int, sizes: list[tuple[int, int]]
) -> None:
    whole = [case(tuple(SPEC), slices=s, patches=p, seed=seed + n) for n, (s, p) in enumerate(sizes)]

    def less(one: Case) -> Case:
        left = {name: value for name, value in one.inputs.items() if name not in names}
        bag = left.get("he")
        # A site lies in the MRI's frame: preparing a slide without the MRI forgets it.
        if isinstance(bag, PatchBag) and "mri" not in left:
            left["he"] = replace(bag, site_mm=None)
        return replace(one, inputs=left)

    same(hide_modalities(collate(whole, SPEC), SPEC, *names), collate([less(one) for one in whole], SPEC))


@pytest.mark.parametrize("first, second", product([("mri",), ("he",), ("mri", "he")], repeat=2))  # noqa: PT006
def test_what_each_case_has_is_what_is_present(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    batch = collate([case(first), case(second, seed=1)], {name: SPEC[name] for name in ("mri", "he")})
    for name in ("mri", "he"):
        has = [name in first, name in second]
        assert batch.present[name].tolist() == has
        assert batch.valid[name].any(1).tolist() == has
        assert (name in batch.inputs) == any(has)
    both = [set(names) == {"mri", "he"} for names in (first, second)]
    assert batch.geometry["mri.site_known"].tolist() == both


def test_items_are_padded_to_the_most_and_padding_is_empty() -> None:
    spec = {name: SPEC[name] for name in ("mri", "he")}
    batch = collate([case(("mri", "he"), slices=1, patches=3), case(("mri", "he"), slices=3, patches=1, seed=1)], spec)
    assert batch.inputs["mri"].shape == (2, 3, 3, 2, PX, PX)
    assert batch.inputs["he"].shape == (2, 3, 3, PX, PX)
    assert batch.valid["mri"].tolist() == [[True, False, False], [True, True, True]]
    assert batch.valid["he"].tolist() == [[True, True, True], [True, False, False]]
    assert float(batch.inputs["mri"][0, 1:, 1].abs().sum()) == 0.0
    assert bool((batch.inputs["he"][1, 1:] == 1).all())  # glass


def test_a_contrast_that_a_volume_lacks_is_zeros_and_the_order_is_the_models() -> None:
    volume = case(("mri",)).inputs["mri"]
    assert isinstance(volume, Volume)
    found = channels(volume, ("t2", "adc", "t1"))
    np.testing.assert_array_equal(found[:, 0], volume.voxels[1])
    np.testing.assert_array_equal(found[:, 2], volume.voxels[0])
    assert not bool(found[:, 1].any())


def test_neighbours_stop_at_the_ends_and_at_padding() -> None:
    stack = torch.arange(4.0).reshape(1, 4, 1, 1, 1).repeat(2, 1, 1, 1, 1)
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    found = neighbours(stack, valid)[..., 0, 0, 0]
    assert found[0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    assert found[1, :2].tolist() == [[0, 0, 1], [0, 1, 1]]
