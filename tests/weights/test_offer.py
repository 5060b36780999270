"""The list of models holds facts of the code: what is kept in the file is what the models measure now."""

from __future__ import annotations

from cmssd_core.models import MODELS
from cmssd_core.models.listing import measure_models
from cmssd_core.models.weights import SHIPPED
from cmssd_core.weights.offer import list_models


def test_the_kept_facts_are_those_of_the_models() -> None:
    assert list_models() == measure_models(), "a model has changed; run make models"


def test_every_model_and_size_is_listed_with_its_weights() -> None:
    assert [(row.name, row.size) for row in list_models()] == [(n, size) for n in MODELS for size in MODELS[n].sizes]
    for row in list_models():
        shipped = SHIPPED / f"{row.name}-{row.size}.safetensors"
        assert row.weights == (shipped.name if shipped.is_file() else None)
    assert any(row.weights for row in list_models())
