"""Laws of the doctor: it never raises, and whatever it finds wrong it says how to mend."""

from __future__ import annotations

import builtins
import dataclasses
import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cmssd_core.config import Settings
from cmssd_core.machine import doctor
from cmssd_core.machine.doctor import Check, examine, fit

NAMES = [
    *("python", "torch", "SimpleITK", "openslide", "streamlit", "opencv", "staintools"),
    *("dicom decoders", "weights", "cache folder", "disk space", "cores", "memory"),
]


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch):
    for variable in [name for name in os.environ if name.startswith("CMSSD_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "weights.safetensors"
    header = {"model": "cmssd", "size": "compact", "trained": "synthetic images"}
    save_file({"w": np.zeros(3, np.float32)}, path, metadata={"cmssd": json.dumps(header)})
    return path


@pytest.fixture
def healthy(tmp_path, weights) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", weights=weights)


def named(checks: tuple[Check, ...], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Makes packages look as if they were not installed."""
    real = doctor.version

    def without(package: str) -> str:
        if package in packages:
            raise doctor.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(doctor, "version", without)


def test_a_locked_installation_is_fit(healthy):
    checks = examine(healthy)
    assert [check.name for check in checks] == NAMES
    assert [check for check in checks if check.required and not check.ok] == []
    assert fit(checks)


def test_checks_are_plain_json(healthy):
    checks = [dataclasses.asdict(check) for check in examine(healthy)]
    assert json.loads(json.dumps(checks)) == checks
    assert set(checks[0]) == {"name", "ok", "found", "advice", "required"}


def test_whatever_fails_says_how_to_mend_it(tmp_path, monkeypatch):
    hide(monkeypatch, "streamlit", "staintools", "spams-bin", *doctor.DICOM_DECODERS)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    settings = Settings(
        cache_dir=tmp_path / "file" / "cache",
        cache_limit_gb=1e9,
        weights=tmp_path / "none.safetensors",
        threads=4096,
        stain_backend="staintools",
    )
    monkeypatch.setattr(doctor, "MEMORY_GB", 1e9)
    checks = examine(settings)
    failing = {check.name for check in checks if not check.ok}
    assert failing >= {
        *("streamlit", "staintools", "dicom decoders", "weights", "cache folder", "disk space", "cores", "memory")
    }
    assert all(check.advice for check in checks if not check.ok)
    assert not fit(checks)


def test_no_network_is_asked(healthy, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the doctor opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert fit(examine(healthy))


def test_a_library_that_does_not_load_is_a_finding(healthy, monkeypatch):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name in ("openslide", "SimpleITK"):
            raise OSError("libsomething.so.6: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    checks = examine(healthy)
    for name in ("openslide", "SimpleITK"):
        assert not named(checks, name).ok
        assert "libsomething" in named(checks, name).found
    assert not fit(checks)


def test_another_torch_is_refused(healthy, monkeypatch):
    import torch

    monkeypatch.setattr(torch, "__version__", "2.12.1+cpu")
    check = named(examine(healthy), "torch")
    assert not check.ok
    assert "torch==2.13.0" in (check.advice or "")


def test_cuda_asked_for_but_absent_is_refused(tmp_path, weights, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check = named(examine(Settings(cache_dir=tmp_path, weights=weights, device="cuda")), "torch")
    assert not check.ok
    assert "CMSSD_DEVICE" in (check.advice or "")


def test_an_old_streamlit_is_refused(healthy, monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda package: "1.9.2")
    assert not named(examine(healthy), "streamlit").ok


def test_both_opencv_wheels_together_are_told(healthy, monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda package: "5.0.0")
    check = named(examine(healthy), "opencv")
    assert not check.ok
    assert "uninstall" in (check.advice or "")


def test_a_missing_extra_leaves_the_installation_fit(healthy, monkeypatch):
    hide(monkeypatch, "staintools", "spams-bin", "opencv-python", "opencv-python-headless", *doctor.DICOM_DECODERS)
    checks = examine(healthy)
    assert "not installed" in named(checks, "staintools").found
    assert fit(checks)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 64])
def test_weights_that_cannot_be_read_are_refused(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    check = named(examine(Settings(cache_dir=tmp_path, weights=path)), "weights")
    assert not check.ok
    assert "CMSSD_WEIGHTS" in (check.advice or "")


@pytest.mark.parametrize("metadata", [None, {}, {"cmssd": "[]"}, {"cmssd": "{"}])
def test_weights_of_another_program_are_refused(tmp_path, metadata):
    path = tmp_path / "foreign.safetensors"
    save_file({"w": np.zeros(3, np.float32)}, path, metadata=metadata)
    assert not named(examine(Settings(cache_dir=tmp_path, weights=path)), "weights").ok


def test_weights_are_told_with_what_they_were_trained_on(healthy):
    assert "trained on synthetic images" in named(examine(healthy), "weights").found


def test_shipped_weights_are_looked_for_where_none_are_set(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(doctor, "SHIPPED_WEIGHTS", tmp_path / "empty")
    assert not named(examine(Settings(cache_dir=tmp_path)), "weights").ok
    monkeypatch.setattr(doctor, "SHIPPED_WEIGHTS", tmp_path)
    assert str(weights) in named(examine(Settings(cache_dir=tmp_path)), "weights").found


def test_the_cache_folder_is_left_as_it_was_found(healthy):
    examine(healthy)
    assert list(healthy.cache_dir.iterdir()) == []


def test_the_test_slide_is_read_by_another_reader_too(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "one.tif"
    path.write_bytes(doctor._tiled_tiff())
    image = tifffile.imread(path)
    assert image.shape == (32, 32, 3)
    assert (image == (200, 100, 150)).all()


def test_the_python_that_runs_this_is_named(healthy):
    assert sys.prefix in named(examine(healthy), "python").found


def test_the_shipped_weights_are_in_order_and_their_companions_are_not_taken_for_weights(tmp_path):
    check = named(examine(Settings(cache_dir=tmp_path, weights=None)), "weights")
    assert check.ok, check.found
    assert "cmssd-compact.safetensors, trained on" in check.found
    assert "calibration" not in check.found
