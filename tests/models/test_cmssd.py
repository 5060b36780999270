"""CM-SSD beside its paper: each equation against a computation by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import placed, random_batch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cmssd_core.blocks.severity import severity_pct
from cmssd_core.models.cmssd import CMSSD, CrossModalGate, PatchToRegion
from cmssd_core.models.damage import CHANNELS
from cmssd_core.tasks.kinds import Targets
from cmssd_core.training.losses import LossSettings, sum_losses


@pytest.mark.parametrize("beside", [None, (0.25, 0.75)])
def test_equations_2_and_3_are_a_sigmoid_of_a_convolution_and_a_gated_sum(beside: tuple[float, ...] | None) -> None:
    """As the paper has them, and with two channels beside its two feature maps."""
    torch.manual_seed(1)
    gate = CrossModalGate(2, beside=0 if beside is None else CHANNELS)
    torch.nn.init.normal_(gate.w_cross.weight)
    f_mri, f_he = torch.randn(1, 2, 5, 5), torch.randn(1, 2, 5, 5)
    more = None if beside is None else torch.tensor([beside])
    fused, alpha = gate(f_mri, f_he, torch.tensor([torch.nan]), more)
    joined = [f_mri, f_he] if more is None else [f_mri, f_he, more.view(1, 2, 1, 1).expand(1, 2, 5, 5)]
    both = torch.cat(joined, 1)[0, :, 1:4, 1:4]  # neighbourhood of cell (2, 2)
    by_hand = 1 / (1 + np.exp(-float(((gate.w_cross.weight[0] * both).sum() + gate.w_cross.bias).detach())))
    assert float(alpha[0, 0, 2, 2]) == pytest.approx(by_hand, rel=1e-5)
    assert alpha.shape == (1, 1, 5, 5)  # a single map for all channels
    expected = by_hand * f_mri[0, :, 2, 2] + (1 - by_hand) * f_he[0, :, 2, 2]
    torch.testing.assert_close(fused[0, :, 2, 2], expected, rtol=1e-4, atol=1e-5)


MAPS = hnp.arrays(np.float64, (2, 3, 4), elements=st.floats(0, 1))


@pytest.mark.parametrize(("only", "expected"), [(1.0, "mri"), (0.0, "he")])
def test_with_one_modality_the_gate_is_all_its(only: float, expected: str) -> None:
    f = {"mri": torch.randn(1, 2, 5, 5), "he": torch.randn(1, 2, 5, 5)}
    fused, alpha = CrossModalGate(2)(f["mri"], f["he"], torch.tensor([only]))
    torch.testing.assert_close(fused, f[expected])
    assert bool((alpha == only).all())


@given(MAPS, MAPS)
def test_severity_is_between_0_and_100_and_undefined_only_without_bone(tumour: np.ndarray, bone: np.ndarray) -> None:
    score = severity_pct(torch.tensor(tumour)[None], torch.tensor(bone)[None])[0]
    if bone.sum() > 0:
        assert -1e-9 <= float(score) <= 100 + 1e-6
    else:
        assert bool(score.isnan())


def test_severity_counts_tumour_inside_the_bone_only() -> None:
    bone, tumour = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    bone[:, :2] = 1  # 8 cells
    tumour[:, 1:3] = 1  # 4 cells inside, 4 outside
    assert float(severity_pct(tumour, bone)) == pytest.approx(50.0)


def test_patches_lie_where_the_site_says_and_everywhere_else_is_the_pooled_vector() -> None:
    batch = placed(random_batch(CMSSD("compact").spec, cases=1, patches=1), patch_mm=torch.zeros(1, 1, 2))
    batch = placed(batch, site_voxel=torch.tensor([[1.0, 9.5, 21.5]]))  # centre of cell (2, 5): 4 i + 1.5
    vectors, pooled = torch.tensor([[[7.0, 8.0]]]), torch.tensor([[1.0, 2.0]])
    laid = PatchToRegion()(vectors, pooled, batch, (3, 16, 16))
    expected = pooled[:, None, :, None, None].expand(1, 3, 2, 16, 16).clone()
    expected[0, 1, :, 2, 5] = vectors[0, 0]
    torch.testing.assert_close(laid, expected)


def laid_out(column: float, patches: int) -> torch.Tensor:
    batch = random_batch(CMSSD("compact").spec, cases=1, patches=patches)
    batch = placed(batch, patch_mm=torch.zeros(1, patches, 2), site_voxel=torch.tensor([[0.0, 9.5, column]]))
    return PatchToRegion()(torch.full((1, patches, 1), 8.0), torch.tensor([[0.0]]), batch, (1, 16, 16))[0, 0, 0]


def test_a_quarter_of_a_cell_away_the_next_cell_gets_its_share() -> None:
    laid = laid_out(22.5, 1)  # weights 3/4 and 1/4: the first cell holds the patch, the second a third of it
    assert float(laid[2, 5]) == pytest.approx(8.0)
    assert float(laid[2, 6]) == pytest.approx(8.0 / 3)


def test_the_place_does_not_depend_on_how_many_patches_were_taken() -> None:
    torch.testing.assert_close(laid_out(22.0, 1), laid_out(22.0, 64))


def test_the_affine_matrix_starts_as_the_identity_and_learns() -> None:
    mapping = PatchToRegion()
    torch.testing.assert_close(mapping.matrix.detach(), torch.eye(2))
    batch = random_batch(CMSSD("compact").spec)
    mapping(torch.randn(2, 4, 8), torch.randn(2, 8), batch, (3, 16, 16)).square().sum().backward()
    assert float(mapping.matrix.grad.abs().sum()) > 0
    assert float(mapping.shift_mm.grad.abs().sum()) > 0


def test_without_a_site_every_cell_is_the_pooled_vector() -> None:
    batch = random_batch(CMSSD("compact").spec, site=False)
    pooled = torch.randn(2, 8)
    laid = PatchToRegion()(torch.randn(2, 4, 8), pooled, batch, (3, 16, 16))
    torch.testing.assert_close(laid, pooled[:, None, :, None, None].expand_as(laid))


def test_cases_without_an_mri_do_not_move_the_maps() -> None:
    torch.manual_seed(0)
    model = CMSSD("compact")
    batch = random_batch(model.spec)
    present = {**batch.present, "mri": torch.tensor([True, False])}
    batch = replace(batch, present=present)
    masks = {"tumour": torch.zeros(2, 3, 64, 64), "bone": torch.ones(2, 3, 64, 64)}
    other = {name: mask.clone() for name, mask in masks.items()}
    other["tumour"][1] = 1

    def terms(of: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        said = Targets(masks=of, labels={"malignant": torch.zeros(2)})
        return sum_losses(model(batch), said, batch, extra={}, settings=LossSettings())

    one, two = terms(masks), terms(other)
    assert {"tumour", "bone", "dice", "malignant", "total"} <= one.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name])
