"""Examines an installation: what is there, what is missing, and how to mend it. Asks no network."""

from __future__ import annotations

import json
import os
import platform
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmssd_core.config import Settings

PYTHON = (3, 11)
TORCH = "2.13.0"
STREAMLIT = (1, 67)
FREE_GB = 2.0
MEMORY_GB = 4.0
DICOM_DECODERS = ("pylibjpeg", "pylibjpeg-openjpeg", "pyjpegls")
SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights"

_INSTALL = "run `make install`, or pip install --no-deps --no-build-isolation -r requirements.lock"


@dataclass(frozen=True)
class Check:
    """One thing looked at. `advice` says how to mend it, None where nothing is to do.

    A check that is not `required` never makes an installation unfit: it tells of an extra that is missing or of a
    machine that will be slow. All fields are plain JSON.
    """

    name: str
    ok: bool
    found: str
    advice: str | None = None
    required: bool = True


def examine(settings: Settings) -> tuple[Check, ...]:
    """All checks, as `run_checks` runs them."""
    return tuple(run_checks(settings))


def run_checks(settings: Settings) -> Iterator[Check]:
    """One check after the other, in the order they are worth reading; each is told before the next one is run.

    Never raises: what breaks a check is what it found.
    """
    checks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", _python),
        ("torch", lambda: _torch(settings)),
        ("SimpleITK", _simpleitk),
        ("openslide", _openslide),
        ("streamlit", _streamlit),
        ("opencv", _opencv),
        ("staintools", lambda: _staintools(settings)),
        ("dicom decoders", _dicom),
        ("weights", lambda: _weights(settings)),
        ("cache folder", lambda: _cache(settings)),
        ("disk space", lambda: _disk(settings)),
        ("cores", lambda: _cores(settings)),
        ("memory", _memory),
    )
    for name, check in checks:
        yield _guarded(name, check)


def fit(checks: tuple[Check, ...]) -> bool:
    """Whether everything that is required is there."""
    return all(check.ok for check in checks if check.required)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check's answer; a library that fails to load or to work is a finding, not a crash."""
    try:
        return check()
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}", _INSTALL)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _python() -> Check:
    ok = sys.version_info[:2] >= PYTHON
    advice = None if ok else f"install Python {PYTHON[0]}.{PYTHON[1]} or newer and make the environment anew"
    return Check("python", ok, f"{platform.python_version()} at {sys.prefix}", advice)


def _torch(settings: Settings) -> Check:
    import torch

    release = torch.__version__.split("+")[0]
    cuda = torch.cuda.is_available()
    found = f"{torch.__version__}, {torch.cuda.get_device_name(0) if cuda else 'no CUDA device'}"
    if release != TORCH:
        return Check("torch", False, found, f"pip install torch=={TORCH}: the weights are checked with it alone")
    if settings.device == "cuda" and not cuda:
        return Check("torch", False, found, "CMSSD_DEVICE asks for cuda; mend the CUDA driver or set it to auto")
    torch.ones(2, 2).matmul(torch.ones(2, 2))
    return Check("torch", True, found)


def _simpleitk() -> Check:
    import SimpleITK as sitk

    image = sitk.Image([4, 5, 6], sitk.sitkFloat32)
    if sitk.GetArrayFromImage(image).shape != (6, 5, 4):
        return Check("SimpleITK", False, "an image of 4x5x6 came back in another shape", _INSTALL)
    return Check("SimpleITK", True, sitk.Version_VersionString())


def _openslide() -> Check:
    """Opens a slide rather than only importing: the library behind the Python package is what goes missing."""
    import openslide

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one_tile.tif"
        path.write_bytes(_tiled_tiff())
        with openslide.OpenSlide(path) as slide:
            pixel = slide.read_region((0, 0), 0, (1, 1)).getpixel((0, 0))
    if pixel[:3] != (200, 100, 150):
        return Check("openslide", False, f"a pixel (200, 100, 150) was read as {pixel[:3]}", _INSTALL)
    return Check("openslide", True, f"{openslide.__library_version__}, read a test slide")


def _tiled_tiff() -> bytes:
    """The smallest slide OpenSlide reads: one 32x32 RGB tile, all (200, 100, 150), no compression."""
    short, long, edge = 3, 4, 32  # libtiff refuses a tile of 16x16
    entries = [  # tag, type, count, value; ascending by tag as TIFF 6.0 asks
        *((256, short, 1, edge), (257, short, 1, edge)),  # width, height
        *((258, short, 1, 8), (259, short, 1, 1), (262, short, 1, 2)),  # bits a sample, no compression, RGB
        *((277, short, 1, 3), (284, short, 1, 1)),  # samples a pixel, interleaved
        *((322, short, 1, edge), (323, short, 1, edge)),  # tile width, height
        *((324, long, 1, 0), (325, long, 1, edge * edge * 3)),  # where the tile is (filled in below), its bytes
    ]
    header = struct.pack("<2sHI", b"II", 42, 8)
    start = len(header) + 2 + 12 * len(entries) + 4
    table = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        table += struct.pack("<HHII", tag, kind, count, start if tag == 324 else value)
    return header + table + struct.pack("<I", 0) + bytes((200, 100, 150)) * edge**2


def _streamlit() -> Check:
    # By its metadata: the core does not import the screen.
    found = _installed("streamlit")
    if found is None:
        return Check("streamlit", False, "not installed", _INSTALL)
    ok = tuple(int(part) for part in found.split(".")[:2]) >= STREAMLIT
    return Check("streamlit", ok, found, None if ok else f"pip install 'streamlit>={STREAMLIT[0]}.{STREAMLIT[1]}'")


def _opencv() -> Check:
    full, headless = _installed("opencv-python"), _installed("opencv-python-headless")
    if full and headless:
        return Check(
            "opencv",
            False,
            f"opencv-python {full} and opencv-python-headless {headless} in one environment, where each overwrites "
            "files of the other",
            "pip uninstall -y opencv-python opencv-python-headless, then make install",
            required=False,
        )
    if not full and not headless:
        return Check("opencv", True, "not installed; only staintools needs it", required=False)
    try:
        import cv2
    except ImportError as error:
        return Check(
            "opencv",
            False,
            f"does not load: {error}",
            "pip uninstall -y opencv-python, then make install: the headless wheel needs no libGL",
            required=False,
        )
    return Check("opencv", True, f"{cv2.__version__}{' (headless)' if headless else ''}", required=False)


def _staintools(settings: Settings) -> Check:
    wanted = settings.stain_backend == "staintools"
    found, solver = _installed("staintools"), _installed("spams-bin")
    if found and solver:
        return Check("staintools", True, f"{found} with spams-bin {solver}", required=wanted)
    missing = " and ".join(name for name, present in (("staintools", found), ("spams-bin", solver)) if not present)
    advice = "pip install 'cmssd[staintools]'" + (
        ", or set CMSSD_STAIN_BACKEND=native" if wanted else " if you want it"
    )
    return Check("staintools", not wanted, f"{missing} not installed; the native backend needs neither", advice, wanted)


def _dicom() -> Check:
    missing = [name for name in DICOM_DECODERS if _installed(name) is None]
    if not missing:
        return Check("dicom decoders", True, ", ".join(DICOM_DECODERS), required=False)
    return Check(
        "dicom decoders",
        False,
        f"{', '.join(missing)} not installed; some compressed DICOM files cannot be read",
        "pip install 'cmssd[dicom]'",
        required=False,
    )


def _weights(settings: Settings) -> Check:
    from safetensors import SafetensorError, safe_open

    if settings.weights is not None:
        paths, advice = [settings.weights], "set CMSSD_WEIGHTS to a .safetensors file of `cmssd train`, or unset it"
    else:
        # NAME.calibration and NAME.tiles.safetensors belong to weights and are none to choose.
        paths = sorted(path for path in SHIPPED_WEIGHTS.glob("*.safetensors") if len(path.suffixes) == 1)
        advice = "install again, or train with `cmssd train`"
        if not paths:
            return Check("weights", False, f"no *.safetensors in {SHIPPED_WEIGHTS}", advice)
    found = []
    for path in paths:
        try:
            with safe_open(path, framework="np") as file:
                stated = (file.metadata() or {}).get("cmssd")
                if stated is None or not list(file.keys()):
                    return Check("weights", False, f"{path} was not made by cmssd or is empty", advice)
                found.append(f"{path}, trained on {json.loads(stated)['trained']}")
        except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
            return Check("weights", False, f"{path} is not readable: {error}", advice)
    return Check("weights", True, "; ".join(found))


def _cache(settings: Settings) -> Check:
    folder = settings.cache_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        advice = "set CMSSD_CACHE_DIR to a folder you may write to; without it every result is computed anew"
        return Check("cache folder", False, f"{folder}: {error.strerror or error}", advice)
    return Check("cache folder", True, f"{folder} is writable")


def _disk(settings: Settings) -> Check:
    present = next(path for path in (settings.cache_dir, *settings.cache_dir.absolute().parents) if path.is_dir())
    free_gb = shutil.disk_usage(present).free / 1e9
    wanted_gb = max(FREE_GB, settings.cache_limit_gb)
    advice = None
    if free_gb < wanted_gb:
        advice = f"free {wanted_gb:.0f} GB, lower CMSSD_CACHE_LIMIT_GB or set CMSSD_CACHE_DIR to another disk"
    return Check("disk space", advice is None, f"{free_gb:.1f} GB free at {present}", advice, required=False)


def _cores(settings: Settings) -> Check:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = settings.threads or torch.get_num_threads()
    advice = None if threads <= cores else f"set CMSSD_THREADS to {cores} or less: more threads than cores are slower"
    return Check("cores", advice is None, f"{cores} usable, {threads} torch threads", advice, required=False)


def _memory() -> Check:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    ok = memory_gb >= MEMORY_GB
    advice = None if ok else f"{MEMORY_GB:.0f} GB or more are needed for whole slides and large volumes"
    return Check("memory", ok, f"{memory_gb:.1f} GB", advice, required=False)
