"""What an encoder gave for an image it has seen already, so that only what changed is encoded anew."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.models.base import Model

LIMIT_BYTES = 128_000_000


class Memory:
    """Features by the content of the slice or patch they were made of, of one model; the oldest go first.

    computed: how many images each encoder really encoded so far. Not safe for two threads: hold the model's lock.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.computed = dict.fromkeys(MODALITIES, 0)
        self._rows: OrderedDict[tuple[str, bytes], Tensor] = OrderedDict()
        self._size = 0

    @contextmanager
    def over(self, model: Model, before_each: Callable[[], None] | None = None) -> Iterator[None]:
        """While open, the model's encoders encode only images they have not seen; all else runs as ever.

        before_each is called before each group of images; what it raises ends the forward. A model in training is
        refused: there an image's features depend on its company.
        """
        if model.training:
            raise ValueError("a model in training came; its features may depend on the batch; call eval() first")
        with ExitStack() as stack:
            for modality, path in model.encoders.items():
                encoder = model.get_submodule(path)
                # Set on the instance, so that hooks on the module still see what comes out.
                encoder.__dict__["forward"] = self._remembering(modality, encoder.forward, before_each)
                stack.callback(encoder.__dict__.pop, "forward", None)
            yield

    def _remembering(
        self, modality: str, encode: Callable[[Tensor], Tensor], before_each: Callable[[], None] | None
    ) -> Callable[[Tensor], Tensor]:
        def forward(images: Tensor) -> Tensor:
            if before_each is not None:
                before_each()
            keys = [(modality, _digest(image)) for image in images]
            found = [self._rows.get(key) for key in keys]
            new = [i for i, row in enumerate(found) if row is None]
            self.computed[modality] += len(new)
            out = encode(images if len(new) == len(keys) else images[new]) if new else None
            for i, row in zip(new, () if out is None else out, strict=True):
                found[i] = row
            rows = [row for row in found if row is not None]
            for key, row in zip(keys, rows, strict=True):
                self._keep(key, row)
            return out if out is not None and len(new) == len(keys) else _stacked(rows)

        return forward

    def _keep(self, key: tuple[str, bytes], row: Tensor) -> None:
        if key in self._rows:
            self._rows.move_to_end(key)
            return
        self._rows[key] = row.clone()
        self._size += row.nbytes
        while self._size > self.limit_bytes and self._rows:
            self._size -= self._rows.popitem(last=False)[1].nbytes


def _stacked(rows: list[Tensor]) -> Tensor:
    """Rows as one batch, laid out as the encoder lays it out: another layout takes kernels that round otherwise."""
    out = torch.stack(rows)
    last = rows[0].ndim == 3 and rows[0].stride(0) == 1
    return out.contiguous(memory_format=torch.channels_last) if last else out


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.cpu().contiguous().numpy().tobytes(), digest_size=16).digest()
