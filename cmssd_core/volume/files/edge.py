"""The outer edge of a reader: whatever goes wrong inside leaves as one InputError, and the log keeps kind and place."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from cmssd_core.types import InputError

_log = logging.getLogger(__name__)


@contextmanager
def one_sentence(sentence: str) -> Iterator[None]:
    """Inside, every fault but an InputError becomes the InputError `sentence`.

    A list of exceptions around open-ended code is never complete. The log says the fault's kind and the line that
    raised it, not its message: that may quote the file, and a file may name a patient.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as fault:
        places = [
            f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno} in {place.name}"
            for place in traceback.extract_tb(fault.__traceback__)[-2:]
        ]
        _log.warning("a reader refused a file: %s at %s", type(fault).__name__, ", ".join(places))
        raise InputError(sentence) from fault
