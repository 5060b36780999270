"""AGGO: a burst in one stream is limited there and nowhere else, and what is usual is learned from the run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cmssd_core.training.aggo import DECAY, FACTOR, Guide


def network(first: float, second: float) -> nn.Module:
    """Two streams of one weight each, with these gradients."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    for layer, gradient in zip(model, (first, second), strict=True):
        layer.weight.grad = torch.tensor([[gradient]])
    return model


def gradients(model: nn.Module) -> list[float]:
    return [float(p.grad) for p in model.parameters() if p.grad is not None]


def test_a_burst_is_limited_in_its_stream_alone() -> None:
    guide = Guide()
    guide.limit(network(1.0, 3.0))
    burst = network(-100.0, 3.0)
    assert float(guide.limit(burst)) == pytest.approx((100.0**2 + 3.0**2) ** 0.5)
    assert gradients(burst) == pytest.approx([-FACTOR, 3.0])


def test_what_is_usual_follows_the_formula_and_survives_a_checkpoint() -> None:
    guide = Guide()
    guide.limit(network(1.0, 1.0))
    guide.limit(network(1.5, 100.0))
    expected = {"0": DECAY + (1 - DECAY) * 1.5, "1": DECAY + (1 - DECAY) * FACTOR}
    assert guide.state() == pytest.approx(expected)
    other = Guide()
    other.restore(guide.state())
    assert other.state() == guide.state()


def test_a_stream_without_gradient_is_left_alone() -> None:
    guide = Guide()
    guide.limit(network(0.0, 1.0))
    assert guide.state() == {"1": 1.0}
    model = network(1.0, 1.0)
    model[0].weight.grad = None
    guide.limit(model)
    assert gradients(model) == [1.0]
