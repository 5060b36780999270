"""Laws of a run folder: what it says of the machine is what the machine says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cmssd_core.training.run_folder import Metrics, environment, history
from cmssd_core.types import InputError


@pytest.mark.parametrize("build", ["2.13.0", "2.13.0+cpu", "2.13.0+cu130"])
def test_the_build_of_torch_is_recorded_as_torch_says_it(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel's metadata may say 2.13.0 where torch says 2.13.0+cu130; numbers differ between the two builds."""
    monkeypatch.setattr(torch, "__version__", build)
    recorded = json.loads(json.dumps(environment()))
    assert recorded["libraries"]["torch"] == build


def test_every_library_is_recorded_with_the_version_that_runs() -> None:
    import numpy
    import safetensors
    import torchio

    recorded = environment()["libraries"]
    assert isinstance(recorded, dict)
    for module in (torch, numpy, torchio, safetensors):
        assert recorded[module.__name__] == module.__version__


def test_a_row_that_a_kill_cut_is_none_when_read_and_when_gone_on_with(tmp_path: Path) -> None:
    """Of "12,both,..." a kill may leave "1", which is a step too, and of a loss of 0.125 a "0.1"."""
    path = tmp_path / "metrics.csv"
    metrics = Metrics(path, 0, ())
    for step in range(13):
        metrics.write({"step": step, "total": 0.125, "stage": "both"})
    metrics.close()
    whole = path.read_bytes()
    start = whole.rindex(b"\n12,") + 1
    for cut in range(start + 1, len(whole)):
        path.write_bytes(whole[:cut])
        assert history(path)["total"].tolist() == [0.125] * 12
    path.write_bytes(whole[: start + 1])
    again = Metrics(path, 12, ())
    assert [row["step"] for row in again.rows] == [str(step) for step in range(12)]
    again.write({"step": 12, "total": 0.125, "stage": "both"})
    again.close()
    assert path.read_bytes() == whole


def test_one_process_trains_into_a_folder_at_a_time(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.csv", 0, ())
    with pytest.raises(InputError, match=f"another process writes into {tmp_path.name}; wait until it has ended"):
        Metrics(tmp_path / "metrics.csv", 0, ())
    metrics.close()
    Metrics(tmp_path / "metrics.csv", 0, ()).close()
