"""Who may do what: the table, the page list, the routes, sign-in by a real provider, and no open door without it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.request import ProxyHandler, build_opener

import oidc_provider
import pytest
import showcase
import streamlit as st
from served import CHROMIUM, FLAGS, ROOT, free_port
from signed_in import SIGN_IN, user
from starlette.requests import Request
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from cmssd_core.types import InputError
from dashboard import rights, sign_in
from dashboard.config import dashboard_settings

RIGHTS = ("summaries", "cases", "export")


@pytest.fixture(autouse=True)
def afresh(tmp_path, monkeypatch):
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_SIGNED_OUT", str(tmp_path / "signed_out"))
    settings.cache_clear()
    dashboard_settings.cache_clear()
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
    settings.cache_clear()
    dashboard_settings.cache_clear()


@pytest.fixture
def with_sign_in(monkeypatch):
    for name, value in SIGN_IN.items():
        monkeypatch.setenv(name, value)
    dashboard_settings.cache_clear()


def test_without_sign_in_everything_is_allowed():
    assert not dashboard_settings().sign_in
    assert all(rights.may(None, right) for right in RIGHTS)


@pytest.mark.usefixtures("with_sign_in")
@pytest.mark.parametrize(
    ("who", "allowed"),
    [
        (None, ()),
        ({}, ()),
        (user(), ()),
        (user("others"), ()),
        (user("students"), ("summaries",)),
        (user("tumour board"), ("summaries", "cases")),
        (user("students", "registry"), RIGHTS),
        (user(groups="registry"), RIGHTS),  # one value, not a list
        (user(groups={"registry": True}), ()),
        (user("registry", is_logged_in=False), ()),
        (user("registry", is_logged_in="yes"), ()),
        (user("registry", iat=time.time() - 13 * 3600), ()),  # the cookie would live for thirty days
        (user("registry", iat=None), ()),
        (user("registry", iat=True), ()),
        (user("registry", iat=time.time() + 3600), ()),  # would open longer than a sign-in lasts
        (user("registry", iat=float("nan")), ()),
        (user("registry", iat=float("inf")), ()),
    ],
)
def test_a_user_may_what_the_role_of_the_claims_allows(who, allowed):
    assert tuple(right for right in RIGHTS if rights.may(who, right)) == allowed


@pytest.mark.usefixtures("with_sign_in")
def test_an_address_that_nobody_verified_gives_no_role(monkeypatch):
    monkeypatch.setenv("CMSSD_ROLE_CLAIM", "email")
    monkeypatch.setenv("CMSSD_ROLES", '{"anna@clinic.example": "export"}')
    dashboard_settings.cache_clear()
    assert rights.may(user(email="anna@clinic.example", email_verified=True), "export")
    assert not rights.may(user(email="anna@clinic.example"), "summaries")
    assert not rights.may(user(email="anna@clinic.example", email_verified=False), "summaries")


def test_each_role_may_what_the_one_before_it_may():
    for less, more in itertools.pairwise(rights.ROLES.values()):
        assert less < more


def test_every_page_has_its_row():
    files = {path.name for path in (ROOT / "pages").glob("*.py")} - {"__init__.py"}
    assert {page.file for page in rights.PAGES.values()} == files


@pytest.mark.usefixtures("with_sign_in")
@pytest.mark.parametrize(
    ("who", "titles"),
    [
        ({}, {"Sign in"}),
        (user(), {"Sign in"}),
        (user("students"), {"Overview", "Performance", "Models"}),
        (user("tumour board"), set(rights.PAGES)),
    ],
)
def test_the_page_list_obeys(who, titles, monkeypatch):
    monkeypatch.setattr("streamlit.user_info._get_user_info", lambda: who)
    monkeypatch.setattr(st, "navigation", seen := Seen())
    AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    assert {page.title for page in seen.pages} <= titles
    assert seen.pages
    assert [page for page in seen.pages if page.url_path == ""]


class Seen:
    """Stands for st.navigation and keeps what it was given."""

    def __call__(self, pages, **_options):
        self.pages = pages
        return self

    def run(self) -> None:
        """Shows nothing."""


@pytest.mark.usefixtures("with_sign_in")
@pytest.mark.parametrize(
    ("who", "says"),
    [({}, "asks you to sign in"), (user(), "no role was given"), (user("registry", iat=1.0), "has run out")],
)
def test_who_may_nothing_is_told_why(who, says, monkeypatch):
    monkeypatch.setattr("streamlit.user_info._get_user_info", lambda: who)
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    assert not app.exception
    assert says in " ".join(str(e.value) for kind in ("markdown", "info") for e in app.get(kind))
    assert not app.sidebar.markdown  # not even the model


@pytest.mark.usefixtures("with_sign_in")
def test_a_cookie_that_we_did_not_sign_is_nobody():
    scope = {"type": "http", "headers": [(b"cookie", b"_streamlit_user=" + json.dumps(user("registry")).encode())]}
    assert rights.request_user(Request(scope)) is None
    assert not rights.request_may(Request(scope), "summaries")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_no_sign_in(host):
    sign_in.refuse_open_door(host, dashboard_settings())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "clinic.example"])
def test_no_door_is_open_without_sign_in(host, monkeypatch):
    with pytest.raises(InputError, match="there is no sign-in"):
        sign_in.refuse_open_door(host, dashboard_settings())
    for name, value in SIGN_IN.items():
        monkeypatch.setenv(name, value)
    dashboard_settings.cache_clear()
    sign_in.refuse_open_door(host, dashboard_settings())


def test_the_program_refuses_to_serve_a_network_without_sign_in():
    done = subprocess.run(
        [sys.executable, "-m", "dashboard.launch", "--headless"], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"CMSSD_HOST": "0.0.0.0"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "there is no sign-in" in done.stderr


@pytest.mark.parametrize("missing", ["CMSSD_COOKIE_SECRET", "CMSSD_PUBLIC_URL"])
@pytest.mark.usefixtures("with_sign_in")
def test_half_a_sign_in_is_refused_and_never_taken_for_none(missing, monkeypatch):
    monkeypatch.delenv(missing)
    dashboard_settings.cache_clear()
    with pytest.raises(InputError, match=f"expected {missing} too"):
        rights.may(None, "summaries")


def test_a_secret_is_never_printed(monkeypatch):
    monkeypatch.setenv("CMSSD_COOKIE_SECRET", "too-short")
    dashboard_settings.cache_clear()
    with pytest.raises(InputError) as mistake:
        dashboard_settings()
    assert "too-short" not in str(mistake.value)
    assert "CMSSD_COOKIE_SECRET=*** came, expected 32 characters or more" in str(mistake.value)


@pytest.mark.usefixtures("with_sign_in")
def test_streamlit_gets_the_secrets_in_memory_and_nothing_prints_them():
    told = sign_in.streamlit_secrets(dashboard_settings())
    assert told["auth"]["client_secret"] == oidc_provider.SECRET
    assert told["auth"]["redirect_uri"] == "https://cmssd.example/oauth2callback"
    assert oidc_provider.SECRET not in dashboard_settings().model_dump_json() + repr(dashboard_settings())


@pytest.fixture
def served(tmp_path) -> Iterator[tuple[str, oidc_provider.Provider]]:
    port = free_port()
    with oidc_provider.provider() as provider:
        address = f"http://127.0.0.1:{port}"
        told = {
            "CMSSD_OIDC_METADATA_URL": f"{provider.address}/.well-known/openid-configuration",
            "CMSSD_PUBLIC_URL": address, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        command = [sys.executable, "-m", "dashboard.launch", "--headless", "--port", str(port)]
        server = subprocess.Popen(command, cwd=tmp_path, env=os.environ | SIGN_IN | told)
        opener = build_opener(ProxyHandler({}))
        for _ in range(240):
            try:
                opener.open(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.5)
        yield address, provider
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: install Debian's chromium to run browser tests")
def test_one_signs_in_with_a_provider_and_sees_what_the_role_allows(served, monkeypatch, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    address, provider = served
    for name, value in (SIGN_IN | {"CMSSD_PUBLIC_URL": address}).items():
        monkeypatch.setenv(name, value)
    dashboard_settings.cache_clear()
    with sync_api.sync_playwright() as playwright:
        from streamlit.runtime.secrets import secrets_singleton

        secrets_singleton.merge_programmatic_secrets(sign_in.streamlit_secrets(dashboard_settings()))
        try:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
            seen = {}
            for group in ("students", "registry", "strangers"):
                provider.claims = {"sub": group, "groups": [group]}
                context = browser.new_context()
                page = context.new_page()
                page.set_default_timeout(120_000)
                page.goto(f"{address}/analyse")  # a page's address opens nothing
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_url(f"{address}/")
                page.get_by_text("Research use only").first.wait_for()
                page.get_by_text("no role was given" if group == "strangers" else "Model in use").first.wait_for()
                cookies = "; ".join(f"{c['name']}={c['value']}" for c in context.cookies())
                request = Request({"type": "http", "headers": [(b"cookie", cookies.encode())]})
                links = page.get_by_test_id("stSidebarNavLink").all_inner_texts()
                seen[group] = (
                    any("Analyse" in link for link in links),
                    [right for right in RIGHTS if rights.request_may(request, right)],
                )
                if group == "registry":
                    lives = [c["expires"] - time.time() for c in context.cookies() if c["name"] == "_streamlit_user"]
                    page.get_by_role("button", name="Sign out").click()
                    page.get_by_text("asks you to sign in").wait_for()
                    copied = browser.new_context(extra_http_headers={"Cookie": cookies}).new_page()
                    copied.goto(address)
                    copied.get_by_text("Sign in").first.wait_for()  # the old cookie opens nothing
                    assert copied.get_by_text("Model in use").count() == 0
                    assert not rights.request_may(request, "summaries")
                    assert 0 < lives[0] <= 12 * 3600
                context.close()
            browser.close()
        finally:
            secrets_singleton._reset()
    assert seen == {"students": (False, ["summaries"]), "registry": (True, list(RIGHTS)), "strangers": (False, [])}
