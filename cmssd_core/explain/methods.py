"""THE table of methods, and the one way to ask: a case or a batch, a model, a method, a target -> Attribution."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cmssd_core.batches import device_of, move_batch
from cmssd_core.cases.collate import collate
from cmssd_core.cases.prepare import prepare
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.explain import ablation, gradients, kept, occlusion, superpixels
from cmssd_core.explain.criteria import Outline, mark
from cmssd_core.explain.forward import Bridge
from cmssd_core.explain.placing import place_maps, region_on
from cmssd_core.explain.question import ExplainSettings, Found, Mark, Progress, Question
from cmssd_core.explain.targets import Target
from cmssd_core.inference.predict import Predictor
from cmssd_core.machine import store as storage
from cmssd_core.models.base import Model
from cmssd_core.types import Attribution, Batch, Case, InputError, frozen


@dataclass(frozen=True)
class Method:
    """One way to explain. signed: values below 0 speak against the target. additive: a map sums to f(x) - f(baseline).

    slow: takes more than a moment. meaning: what it is, and is not, for a reader.
    """

    label: str
    run: Callable[[Question], Found]
    meaning: str
    signed: bool
    additive: bool = False
    slow: bool = False


METHODS: dict[str, Method] = {
    "gate": Method(
        "gate, not evidence",
        gradients.gate,
        "Where the model weighted the MRI against the slide, and the patches against one another. It does not say what "
        "was read there: models that cheat have the same gate as honest ones.",
        signed=False,
    ),
    "gradcam": Method(
        "GradCAM",
        gradients.gradcam,
        "Coarse areas of each branch's last feature map that raise the target. Instant; misses what is smaller than a "
        "cell.",
        signed=False,
    ),
    "integrated_gradients": Method(
        "Integrated Gradients",
        gradients.integrated_gradients,
        "What each pixel adds on the way from an image without content to this one. The values add up to the change of "
        "the target; the residual shown says how nearly.",
        signed=True,
        additive=True,
        slow=True,
    ),
    "smoothgrad": Method(
        "SmoothGrad",
        gradients.smoothgrad,
        "How strongly the target reacts to each pixel, averaged over noisy copies. Knows no direction and does not add "
        "up.",
        signed=False,
        slow=True,
    ),
    "occlusion": Method(
        "Occlusion",
        occlusion.occlusion,
        "What the target loses when a window is covered. Slow, and asks the model itself; a covered window is a "
        "picture the model has not seen before.",
        signed=True,
        slow=True,
    ),
    "kernel_shap": Method(
        "KernelShap",
        superpixels.kernel_shap,
        "Shapley values of a hundred superpixels of both images, estimated from random mixtures: noisy, coarse, and "
        "they add up.",
        signed=True,
        additive=True,
        slow=True,
    ),
    "lime": Method(
        "LIME",
        superpixels.lime,
        "Weights of a simple model of the target in random mixtures of superpixels. Noisy; another seed gives "
        "another map.",
        signed=True,
        slow=True,
    ),
    "criterion_ablation": Method(
        "Criterion ablation",
        ablation.criterion_ablation,
        "What the target loses when the region of a pathological criterion is covered, beyond what covering the same "
        "shape elsewhere costs.",
        signed=True,
        slow=True,
    ),
    "modality_shapley": Method(
        "Modality shares",
        ablation.modality_shapley,
        "How the answer parts among MRI and slide: exact Shapley values. Not the gate: the two hardly agree.",
        signed=True,
        additive=True,
    ),
}


def explain(
    asked: Case | Batch,
    predictor: Predictor | Model,
    method: str = "integrated_gradients",
    target: Target | None = None,
    *,
    settings: ExplainSettings | None = None,
    progress: Progress | None = None,
    criteria: Sequence[Outline] = (),
    program: Settings | None = None,
    store: storage.Store | None = None,
) -> Attribution:
    """Where a target of a model's answer comes from. A Case is prepared as for `predict`; a Batch holds one case.

    target: None = the malignancy logit. criteria: of this Case, for methods that ask for them. store: where a Case's
    answer of a Predictor is kept and looked for. progress(share, what) is called from time to time and may raise to
    cancel. Raises InputError where the method, the target or the input cannot be used. Hold the model's lock: the model
    is not altered, but two explanations at once take twice the memory.
    """
    settings, program, target = settings or ExplainSettings(), program or default_settings(), target or Target()
    tell = progress or (lambda share, what: None)
    started = time.perf_counter()
    kind = choose_method(method)
    key = None
    if store is not None and isinstance(asked, Case) and isinstance(predictor, Predictor):
        key = kept.key(asked, predictor, method, target, settings, criteria, program)
        known = kept.load_attribution(store, key, asked)
        if known is not None:
            return replace(known, seconds=round(time.perf_counter() - started, 3))
    model = predictor.model if isinstance(predictor, Predictor) else predictor
    prepared: Case | None = None
    marks: tuple[Mark, ...] = ()
    if isinstance(asked, Case):
        tell(0.02, "preparing the images")
        prepared = prepare(asked, spec=model.spec, settings=program)
        target = replace(target, region=region_on(target.region, asked, prepared))
        batch = collate([prepared], model.spec)
        marks = tuple(mark(one, asked, prepared) for one in criteria if one.criterion.modality in prepared.inputs)
    else:
        batch = asked
        if len(batch.ids) != 1:
            raise ValueError(
                f"a batch of {len(batch.ids)} cases came; explain takes one, `explain_batch` takes several"
            )
    answer = explain_batch(batch, model, method, target, settings=settings, progress=tell, marks=marks)
    tell(0.97, "placing the maps on the images")
    inputs = {
        name: frozen(np.ascontiguousarray(values[0].float().cpu().numpy())) for name, values in answer.maps.items()
    }
    where = place_maps(inputs, asked if isinstance(asked, Case) else None, prepared)
    summary = Attribution(
        case_id=batch.ids[0],
        model_id=predictor.model_id if isinstance(predictor, Predictor) else f"{type(model).__name__.lower()}-unsaved",
        trained=predictor.trained if isinstance(predictor, Predictor) else "unknown",
        method=method,
        label=kind.label,
        target=target.words,
        unit=target.unit,
        maps=where.maps,
        inputs=inputs,
        affine=where.affine,
        patch_xy=where.patch_xy,
        patch_size_px=where.patch_size_px,
        signed=kind.signed,
        value=float(answer.value[0]),
        baseline=answer.baseline,
        baseline_value=None if answer.baseline_value is None else float(answer.baseline_value[0]),
        gap=None if answer.gap is None or bool(answer.gap[0].isnan()) else float(answer.gap[0]),
        shares=answer.shares[0] if answer.shares else (),
        effort=answer.effort,
        notes=answer.notes,
        seconds=round(time.perf_counter() - started, 3),
    )
    if key is not None and store is not None:
        summary = kept.keep(store, key, summary)
    tell(1.0, "done")
    return summary


def explain_batch(
    batch: Batch,
    model: Model,
    method: str = "integrated_gradients",
    target: Target | None = None,
    *,
    settings: ExplainSettings | None = None,
    progress: Progress | None = None,
    marks: tuple[Mark, ...] = (),
) -> Found:
    """The same for all cases of a Batch at once, as tensors with the case first: what an audit asks."""
    kind = choose_method(method)
    with torch.inference_mode(False):
        bridge = Bridge(model, move_batch(batch, next(model.parameters()).device), target or Target())
        tell = progress or (lambda share, what: None)
        marks = tuple(replace(one, mask=one.mask.to(device_of(bridge.batch))) for one in marks)
        return kind.run(Question(bridge, settings or ExplainSettings(), tell, marks))


def choose_method(method: str) -> Method:
    """A row of METHODS. Raises InputError where there is none of that name."""
    if method not in METHODS:
        raise InputError(f"method {method!r} came, expected one of {', '.join(METHODS)}; choose one of these", "method")
    return METHODS[method]
