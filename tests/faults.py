"""What worker processes do in tests: here, flat, because a spawned process imports it by name."""

from __future__ import annotations

import os

from cmssd_core.studies import run as cohort_run


def nothing(*_arguments: object) -> None:
    """Sets nothing up."""


def dies_of_one(done: cohort_run._Job) -> None:
    """Ends its process at case-3, and keeps an answer to any other case."""
    if done.row["case_id"] == "case-3":
        os._exit(9)
    done.path.write_text(f'[{{"case_id": "{done.row["case_id"]}"}}]', encoding="utf-8")


def threads() -> tuple[int, int]:
    """How many threads torch and SimpleITK use in this process."""
    import SimpleITK as sitk
    import torch

    return torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
