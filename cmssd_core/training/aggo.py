"""AGGO: AdamW whose gradient is limited stream by stream, by what that stream's gradient has lately been.

Seed paper 000 (section 3.1) names an "Adaptive Gradient-Guided Optimizer ... to prevent exploding gradient problems
associated with multiple streams of input" and gives no equation. Ours: with g_s the gradient of stream s (one child
module of the network: an encoder, the gate, the decoder, ...) and m_s a running mean of its past norms,

    g_s <- g_s min(1, FACTOR m_s / |g_s|),    m_s <- DECAY m_s + (1 - DECAY) min(|g_s|, FACTOR m_s),

then AdamW (Loshchilov and Hutter, ICLR 2019). A burst in one stream neither reaches its moments nor shrinks the step
of another, and no limit has to be chosen by hand. Related: Seetharaman et al., AutoClip, MLSP 2020.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

FACTOR = 2.0
DECAY = 0.98


class Guide:
    """The running mean norm of each stream; `limit` is called after backward and before the optimizer's step."""

    def __init__(self) -> None:
        self.norms: dict[str, float] = {}

    def limit(self, model: nn.Module) -> Tensor:
        """Limit in place the gradient of each child module, and what lies in none; gives the norm of all, shape ()."""
        seen = [torch.zeros(())]  # a step that taught nothing has no gradient at all
        streams = {name: list(stream.parameters()) for name, stream in model.named_children()}
        streams[""] = list(model.parameters(recurse=False))
        for name, parameters in streams.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            if not gradients:
                continue
            norm = torch.stack([g.norm() for g in gradients]).norm()
            seen.append(norm.cpu())
            found = float(norm)
            if found == 0.0:  # a stream the batch did not use says nothing of what is usual
                continue
            usual = self.norms.get(name, found)
            if found > FACTOR * usual:
                for gradient in gradients:
                    gradient.mul_(FACTOR * usual / found)
                found = FACTOR * usual
            self.norms[name] = DECAY * usual + (1 - DECAY) * found
        total: Tensor = torch.stack(seen).norm()
        return total

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return dict(self.norms)

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint's state."""
        self.norms = dict(state)
