"""A sign-out ends the sign-in for every copy of its cookie, and after the server starts again."""

from __future__ import annotations

import os
import time

import pytest
from signed_in import user

from dashboard import signed_out
from dashboard.config import dashboard_settings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CMSSD_SIGNED_OUT", str(tmp_path / "signed_out"))
    monkeypatch.setattr(signed_out, "_names", set())
    dashboard_settings.cache_clear()
    yield tmp_path / "signed_out"
    dashboard_settings.cache_clear()


def test_a_sign_out_ends_this_sign_in_and_no_other():
    mine, other = user("registry", sub="anna", nonce="1"), user("registry", sub="anna", nonce="2")
    signed_out.sign_out(mine)
    assert signed_out.is_signed_out(mine)
    assert signed_out.is_signed_out({**mine, "origin": "https://cmssd.example", "tokens": {}}), "a session and a cookie"
    assert not signed_out.is_signed_out(other)


def test_a_sign_out_outlives_the_server(monkeypatch):
    mine = user("registry", sub="anna")
    signed_out.sign_out(mine)
    monkeypatch.setattr(signed_out, "_names", set())
    assert signed_out.is_signed_out(mine)


def test_a_sign_out_is_kept_no_longer_than_the_sign_in_would_have_lasted(folder):
    signed_out.sign_out(user(sub="old"))
    (kept,) = folder.iterdir()
    assert "old" not in kept.name
    os.utime(kept, (time.time() - 13 * 3600,) * 2)
    signed_out.sign_out(user(sub="new"))
    assert len(list(folder.iterdir())) == 1
    assert not kept.exists()


def test_a_sign_out_holds_where_nothing_can_be_written(folder):
    folder.write_text("a file where the folder should be")
    signed_out.sign_out(user(sub="anna", iat=1))
    assert signed_out.is_signed_out(user(sub="anna", iat=1))
