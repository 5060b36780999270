"""The baselines beside their papers: parameters others counted, and what tells each from CM-SSD."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from batches import placed, random_batch
from torch import nn
from torch.nn import functional as F

from cmssd_core.models import MODELS
from cmssd_core.models.early import Early
from cmssd_core.models.late import Late, average_logits
from cmssd_core.models.osnet import WIDTHS, AggregationGate, OmniScaleBlock, OSNetEncoder
from cmssd_core.models.resnet50 import Bottleneck, ResNet50Trunk


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_resnet_50_trunk_has_the_parameters_of_torchvisions() -> None:
    """25,557,032 with the classifier of 1,000 classes (2048 * 1000 + 1000), as torchvision's table of weights says."""
    assert count(ResNet50Trunk(3, 64)) == 25_557_032 - 2048 * 1000 - 1000


def test_the_resnet_50_trunk_is_table_1_of_its_paper() -> None:
    trunk = ResNet50Trunk(3, 64)
    with torch.no_grad():
        maps = trunk(torch.randn(1, 3, 224, 224))
    assert [tuple(m.shape[1:]) for m in maps] == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]
    convolutions = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    shortcuts = [m for b in trunk.modules() if isinstance(b, Bottleneck) for m in b.shortcut.modules()]
    # "50 layers": those with weights on the longest way, and the classifier that is not here.
    assert len(convolutions) - sum(isinstance(m, nn.Conv2d) for m in shortcuts) == 49


def test_osnet_has_the_parameters_of_its_authors() -> None:
    """torchreid prints 2,193,616 for osnet_x1_0 without classifier; its counter adds a module up at each call, and the
    shared gate is called four times, so three gates too many are in it.
    """
    encoder = OSNetEncoder(WIDTHS["reference"])
    gates = sum(count(module) for module in encoder.modules() if isinstance(module, AggregationGate))
    assert count(encoder) + 3 * gates == 2_193_616


def test_an_omni_scale_block_sees_3_5_7_and_9_pixels() -> None:
    block = OmniScaleBlock(64, 64)
    for module in block.modules():  # normalisation would spread every pixel over the whole map
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
            if isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 0.1)
    point = torch.zeros(1, 16, 21, 21)
    point[..., 10, 10] = 1
    with torch.no_grad():
        seen = [int(stream(point)[0, 0, 10].gt(0).sum()) for stream in block.streams]
    assert seen == [3, 5, 7, 9]


def test_the_aggregation_gate_is_equation_3_one_gate_for_all_streams() -> None:
    torch.manual_seed(0)
    gate = AggregationGate(32)
    streams = torch.randn(4, 2, 32, 5, 5)
    expected = torch.zeros(2, 32, 5, 5)
    for stream in streams:
        hidden = (stream.mean((2, 3)) @ gate.hidden.weight.T + gate.hidden.bias).clamp(min=0)
        weight = 1 / (1 + torch.exp(-(hidden @ gate.weigh.weight.T + gate.weigh.bias)))
        expected = expected + weight[..., None, None] * stream
    torch.testing.assert_close(gate(streams), expected)


def test_osnet_says_nothing_of_where_or_how_much() -> None:
    model = MODELS["osnet"]("compact")
    output = model(random_batch(model.spec))
    assert set(output.heads) == {"malignant"}
    assert not output.also


def test_the_mean_of_two_probabilities_is_exact_far_from_a_half() -> None:
    one, other = torch.tensor([0.3, -90.0, 90.0, 90.0, 0.0]), torch.tensor([-2.0, -90.0, 90.0, -90.0, 0.0])
    found = average_logits(one.requires_grad_(), other)
    expected = (one.sigmoid() + other.sigmoid()) / 2
    torch.testing.assert_close(found.sigmoid(), expected)
    torch.testing.assert_close(found[1:3], torch.tensor([-90.0, 90.0]))  # where float32 probabilities have run out
    found.sum().backward()
    assert bool(one.grad.isfinite().all())


def test_late_averages_the_answers_its_branches_give_alone() -> None:
    torch.manual_seed(0)
    model = Late("compact").eval()
    batch = random_batch(model.spec)
    none = torch.zeros(2, dtype=torch.bool)

    def without(name: str) -> torch.Tensor:
        with torch.no_grad():
            return model(replace(batch, present={**batch.present, name: none})).heads["malignant"].sigmoid()

    with torch.no_grad():
        together = model(batch).heads["malignant"].sigmoid()
    torch.testing.assert_close(together, (without("mri") + without("he")) / 2)


def test_in_late_the_slide_moves_the_tumour_but_never_the_lesion_or_the_bone() -> None:
    torch.manual_seed(0)
    model = Late("compact").eval()
    batch = random_batch(model.spec)
    other = replace(batch, inputs={**batch.inputs, "he": 1 - batch.inputs["he"]})
    with torch.no_grad():
        one, two = model(batch), model(other)
    torch.testing.assert_close(one.heads["bone"], two.heads["bone"])
    torch.testing.assert_close(one.also["lesion"], two.also["lesion"])
    assert not torch.equal(one.heads["tumour"], two.heads["tumour"])


def test_early_knows_neither_gate_nor_place() -> None:
    torch.manual_seed(0)
    model = Early("compact").eval()
    batch = random_batch(model.spec)
    elsewhere = placed(batch, site_voxel=batch.geometry["mri.site_voxel"] + 9, patch_mm=-batch.geometry["he.patch_mm"])
    with torch.no_grad():
        one, two = model(batch), model(elsewhere)
    torch.testing.assert_close(one.heads["tumour"], two.heads["tumour"])
    assert set(one.attention) == {"patch"}


@pytest.mark.parametrize("size", ["compact", "reference"])
def test_fusions_differ_in_the_fusion_not_in_what_they_are_made_of(size: str) -> None:
    """Same encoders and decoder, and as many parameters within half a percent: what differs is how they meet."""
    models = {name: MODELS[name](size) for name in ("cmssd", "early", "late")}
    for part in ("phi_mri", "phi_he", "decoder"):
        shapes = {name: [p.shape for p in getattr(model, part).parameters()] for name, model in models.items()}
        assert shapes["early"] == shapes["late"] == shapes["cmssd"]
    for model in models.values():
        assert count(model) == pytest.approx(count(models["cmssd"]), rel=0.005)


@pytest.mark.parametrize(
    "name", ["resnet50", "osnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("early", "late"))]
)
def test_a_baseline_learns_a_handful_of_cases_by_heart(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]("compact")
    batch = random_batch(model.spec, cases=4, slices=1, patches=2, px=32)
    malignant = torch.tensor([0.0, 1.0, 0.0, 1.0])
    tumour = torch.zeros(4, 1, 32, 32)
    tumour[malignant.bool(), :, 8:20, 8:20] = 1
    model.fit_start(batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    answers, maps = [], []
    for _ in range(40):
        output = model(batch)
        answers.append(F.binary_cross_entropy_with_logits(output.heads["malignant"], malignant))
        drawn = output.heads.get("tumour")
        maps.append(answers[-1] * 0 if drawn is None else F.binary_cross_entropy_with_logits(drawn, tumour))
        optimizer.zero_grad()
        (answers[-1] + maps[-1]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    share = tumour.mean()
    constant = -(share * share.log() + (1 - share) * (1 - share).log())  # what a map without any place in it can reach
    assert answers[-1].item() < 0.3 * answers[0].item()
    assert maps[-1].item() < 0.7 * constant.item()
