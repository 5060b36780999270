"""CMSSD_* variables of the core: a malformed one is named, in one sentence; the dashboard's are left to it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cmssd_core import config
from cmssd_core.types import InputError


@pytest.fixture(autouse=True)
def afresh():
    config.settings.cache_clear()
    yield
    config.settings.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CMSSD_THREADS", "abc", "a valid integer"),
        ("CMSSD_THREADS", "0", "greater than or equal to 1"),
        ("CMSSD_N4", "banana", "a valid boolean"),
        ("CMSSD_DEVICE", "abacus", "'cpu'"),
        ("CMSSD_SEVERITY_TIERS", "foo", "JSON such as"),
        ("CMSSD_SEVERITY_TIERS", '[["low"]]', "expected"),
        ("CMSSD_SEVERITY_TIERS", '[["low", 50], ["high", 25]]', "ascend"),
        ("CMSSD_SEVERITY_TIERS", '[["low", 0], ["high", 0]]', "ascend"),
        ("CMSSD_SEVERITY_TIERS", '[["low", 0], ["high", 101]]', "100 percent"),
        ("CMSSD_SEVERITY_TIERS", '[["low", 0], ["high", NaN]]', "expected"),
        ("CMSSD_SEVERITY_TIERS", '[["low", 0], ["low", 50]]', "a name of its own"),
    ],
)
def test_a_malformed_variable_is_named_with_what_was_expected(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as mistake:
        config.settings()
    told = str(mistake.value)
    assert told.startswith(f"{variable}={value} came, expected ")
    assert expected in told
    assert f"unset the variable {variable}" in told
    assert len(told.splitlines()) == 1


def test_tiers_that_ascend_are_taken_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMSSD_SEVERITY_TIERS", '[["little", 0], ["much", 60.5]]')
    assert config.settings().severity_tiers == (("little", 0.0), ("much", 60.5))


def test_the_core_neither_refuses_nor_keeps_what_is_the_dashboards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMSSD_ROLES", "no JSON")
    monkeypatch.setenv("CMSSD_COOKIE_SECRET", "too-short")
    monkeypatch.setenv("CMSSD_THREADS", "3")
    found = config.settings()
    assert found.threads == 3
    assert "too-short" not in repr(found) + found.model_dump_json()
    with pytest.raises(ValidationError, match="host"):
        config.Settings(host="0.0.0.0")
