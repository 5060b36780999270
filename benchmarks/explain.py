"""What an explanation takes, against plain Captum in the same run: reference size, random weights, 256 x 256 pair.

python -m benchmarks.explain [--windows N] [--threads N]

Occlusion of a whole image takes 961 windows; N of them are timed and scaled up, ours and Captum's in turns. Seconds are
those of the process on all its threads: what an idle machine takes with one thread, whatever else runs beside.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from cmssd_core.explain.baselines import fill, path_start
from cmssd_core.explain.forward import Bridge
from cmssd_core.explain.gradients import gap
from cmssd_core.explain.methods import explain_batch
from cmssd_core.explain.occlusion import Occluder, windows
from cmssd_core.explain.question import ExplainSettings, Question
from cmssd_core.explain.targets import Target
from cmssd_core.models import MODELS
from cmssd_core.models.listing import example
from cmssd_core.types import Batch

RESIDUAL = 0.05
PLAIN_STEPS = (8, 16, 32, 50)


def timed(work: Callable[[], object], *, turns: int = 2) -> float:
    """The shortest of some turns, in seconds; the first, which warms up, is not counted."""
    work()
    times = []
    for _ in range(turns):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def textured() -> Batch:
    """A pair with something to see: smooth random images, for an even one has no features to attribute."""
    model = MODELS["cmssd"]("reference")
    batch, rng = example(model, px=256), torch.Generator().manual_seed(0)

    def image(*shape: int) -> Tensor:
        coarse = torch.randn(*shape, 32, 32, generator=rng)
        fine = torch.nn.functional.interpolate(coarse, size=(256, 256), mode="bilinear", align_corners=False)
        return fine + 0.3 * torch.randn(*shape, 256, 256, generator=rng)

    mri = image(1, 4)[:, None, None].expand(-1, -1, 3, -1, -1, -1).contiguous()
    he = (0.7 + 0.1 * image(1, 3)).clamp(0, 1)[:, None]
    return replace(batch, inputs={"mri": mri, "he": he})


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--windows", type=int, default=24)
    asked.add_argument("--threads", type=int, default=1)
    told = asked.parse_args()
    torch.set_num_threads(told.threads)
    torch.manual_seed(0)
    model = MODELS["cmssd"]("reference").eval().to(memory_format=torch.channels_last)
    for part in model.malignancy.modules():
        if isinstance(part, torch.nn.Linear):  # random weights say nearly the same of all images
            part.weight.data *= 30
    batch = textured()
    bridge = Bridge(model, batch, Target())
    with torch.no_grad():
        print(f"one forward {timed(lambda: bridge(*bridge.inputs)):.3f} s")
    print(f"GradCAM, both branches {timed(lambda: explain_batch(batch, model, 'gradcam')):.3f} s")
    shares = timed(lambda: explain_batch(batch, model, "modality_shapley"), turns=1)
    print(f"modality shares {shares:.3f} s")
    gradients(bridge, batch)
    for modality in ("mri", "he"):
        occlusion(bridge, modality, told.windows)


def gradients(bridge: Bridge, batch: Batch) -> None:
    """Adaptive Integrated Gradients, and Captum's with the fewest steps that reach the same residual."""
    started = time.process_time()
    ours = explain_batch(batch, bridge.model, settings=ExplainSettings(tolerance=RESIDUAL))
    took = time.process_time() - started
    assert ours.gap is not None
    print(f"Integrated Gradients, adaptive: {took:.2f} s, residual {float(ours.gap[0]):.3f}, {ours.effort}")
    base, _ = path_start(bridge, ExplainSettings())
    for steps in PLAIN_STEPS:
        started = time.process_time()
        maps = IntegratedGradients(bridge).attribute(bridge.inputs, base, n_steps=steps, internal_batch_size=1)
        plain = time.process_time() - started
        with torch.no_grad():
            left = float(gap(maps, bridge(*bridge.inputs), bridge(*base))[0])
        print(f"  Captum, {steps} steps: {plain:.2f} s, residual {left:.3f}, {plain / took:.2f} x ours")


def occlusion(bridge: Bridge, modality: str, count: int) -> None:
    """Windows of 16 px, 8 apart: ours against Captum's way, one window a pass and several a pass."""
    settings = ExplainSettings(window_px=16, stride_px=8, window_slices=1)
    at = bridge.names.index(modality)
    laid, _ = windows(modality, (*bridge.inputs[at].shape[1:],), settings)
    some = laid[:: max(1, len(laid) // count)][:count]
    covers, _ = fill(bridge, settings)
    question = Question(bridge, settings, lambda share, what: None)
    rows = []
    for window in some:
        row = bridge.inputs[at].clone()
        row[window.part(row.ndim)] = covers[at][window.part(row.ndim)]
        rows.append(row)
    occluder = Occluder(question)
    together = question.copies((modality,))

    def ours() -> Tensor:
        return torch.cat([occluder(modality, rows[i : i + together]) for i in range(0, len(rows), together)])

    def captums(size: int) -> Tensor:
        parts = []
        with torch.no_grad():
            for i in range(0, len(rows), size):
                given = [x.repeat(len(rows[i : i + size]), *[1] * (x.ndim - 1)) for x in bridge.inputs]
                given[at] = torch.cat(rows[i : i + size])
                parts.append(bridge(*given))
        return torch.cat(parts)

    torch.testing.assert_close(ours().flatten(), captums(1), rtol=1e-3, atol=1e-4)
    mine, single, batched = timed(ours, turns=1), timed(lambda: captums(1), turns=1), timed(lambda: captums(8), turns=1)
    whole = len(laid) / len(some)
    print(
        f"occlusion of the {modality}, {len(laid)} windows: {mine * whole:.0f} s; Captum one a pass "
        f"{single * whole:.0f} s ({single / mine:.2f} x), eight a pass {batched * whole:.0f} s ({batched / mine:.2f} x)"
    )


if __name__ == "__main__":
    main()
