"""A served dashboard with files that a person may upload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import showcase
from served import served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("served")
    showcase.weights(folder)
    showcase.nifti(folder / "Mueller_Anna_t1.nii.gz")
    (folder / "broken_t1.nii.gz").write_bytes(b"this is no image")
    with served(folder, weights=str(folder / "random.safetensors")) as here:
        yield here.address, folder
    log = here.log
    assert "Mueller" not in log
    assert not list(folder.glob("cmssd-session-*")), "uploads outlived the server"
