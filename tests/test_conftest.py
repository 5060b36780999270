"""Laws of the examples that property tests draw: the same in every `make test`, new ones in `make test-slow`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def drawn(profile: str) -> list[int]:
    numbers: list[int] = []

    @settings(settings.get_profile(profile), max_examples=20)
    @given(st.integers(0, 2**62))
    def collect(number: int) -> None:
        numbers.append(number)

    collect()
    return numbers


def test_a_test_run_draws_the_examples_of_the_run_before_it() -> None:
    assert len(set(drawn("fixed"))) > 10
    assert drawn("fixed") == drawn("fixed")


def test_a_random_run_draws_new_ones() -> None:
    assert drawn("random") != drawn("random")


def test_examples_are_fixed_unless_a_random_run_is_asked_for(request: pytest.FixtureRequest) -> None:
    asked = request.config.getoption("--hypothesis-profile")
    assert settings.default is not None
    assert settings.default.derandomize == (asked != "random")
