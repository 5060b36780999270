"""What all tests share: one tiny cohort a run, a cache of their own, and the folder of real data where it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from places import DATA, NO_DATA
from tiny import tiny_cohort

from cmssd_core import config

# `make test` draws the same examples in every run, so that it fails for a change and not by chance; `make test-slow`
# draws new ones, and more where a test names no number. Neither times an example: the machine may be busy.
UNTIMED = {"deadline": None, "suppress_health_check": (HealthCheck.too_slow,)}
settings.register_profile("fixed", derandomize=True, **UNTIMED)
settings.register_profile("random", derandomize=False, max_examples=1000, print_blob=True, **UNTIMED)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def main_stays() -> Iterator[None]:
    """AppTest leaves the page it ran as Python's main module, which every spawned process would run again."""
    kept = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = kept


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cohort(tmp_path_factory.mktemp("cohort"), split="train")


@pytest.fixture
def quick_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands with a cache of the test's own and without bias correction."""
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_N4", "false")
    config.settings.cache_clear()
    yield
    config.settings.cache_clear()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real images and tables that CMSSD_TEST_DATA names; a user has none."""
    if not DATA.is_dir():
        pytest.skip(NO_DATA)
    return DATA
