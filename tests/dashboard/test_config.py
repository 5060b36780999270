"""CMSSD_* variables of the dashboard: a malformed one is named before it serves; they are not the core's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from places import ROOT
from pydantic import ValidationError

from cmssd_core.config import PREFIX, Settings
from cmssd_core.types import InputError
from dashboard.config import DashboardSettings, dashboard_settings


@pytest.fixture(autouse=True)
def afresh():
    dashboard_settings.cache_clear()
    yield
    dashboard_settings.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CMSSD_ROLES", "foo", 'JSON such as {"tumour-board"'),
        ("CMSSD_ROLES", '{"board": "king"}', "'summaries', 'cases' or 'export'"),
        ("CMSSD_PUBLIC_URL", "cmssd.example", "an address that begins with https://"),
        ("CMSSD_SIGN_IN_HOURS", "0", "greater than 0"),
        ("CMSSD_UPLOAD_LIMIT_MB", "0", "greater than or equal to 1"),
        ("CMSSD_BASE_PATH", "/a b", "a path such as /cmssd"),
        ("CMSSD_BASE_PATH", "/../x", "a path such as /cmssd"),
        ("CMSSD_FRAME_ANCESTORS", "*", 'JSON such as ["https://portal.example"]'),
        ("CMSSD_FRAME_ANCESTORS", '["*"]', "origins such as https://portal.example"),
        ("CMSSD_FRAME_ANCESTORS", '["https://a.example; script-src *"]', "origins such as https://portal.example"),
        ("CMSSD_SERVER_NAMES", '["https://a.example"]', "names such as cmssd.hospital.example"),
    ],
)
def test_a_malformed_variable_is_named_with_what_was_expected(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as mistake:
        dashboard_settings()
    told = str(mistake.value)
    assert told.startswith(f"{variable}={value} came, expected ")
    assert expected in told
    assert f"unset the variable {variable}" in told
    assert len(told.splitlines()) == 1


def test_roles_are_a_json_object_of_claim_and_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMSSD_ROLES", '{"board": "cases", "registry": "export"}')
    assert dashboard_settings().roles == (("board", "cases"), ("registry", "export"))


def test_a_variable_is_the_cores_or_the_dashboards() -> None:
    assert not set(Settings.model_fields) & set(DashboardSettings.model_fields)
    with pytest.raises(ValidationError, match="threads"):
        DashboardSettings(threads=3)


@pytest.mark.parametrize(("variable", "value"), [("CMSSD_SIGN_IN_HOURS", "long"), ("CMSSD_N4", "banana")])
def test_a_mistake_in_either_is_said_before_it_serves(variable: str, value: str) -> None:
    clean = {name: given for name, given in os.environ.items() if not name.startswith(PREFIX)}
    done = subprocess.run(
        [sys.executable, "-m", "dashboard.launch", "--headless"], cwd=ROOT, capture_output=True, text=True,
        env=clean | {variable: value}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"{variable}={value} came, expected ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("base", "public", "path"),
    [("", None, ""), ("cmssd/", None, "/cmssd"), ("/a/b", None, "/a/b"), ("", "https://h.example/cmssd/", "/cmssd"),
     ("/cmssd", "https://h.example/cmssd", "/cmssd"), ("", "https://h.example", "")],
)  # fmt: skip
def test_the_path_is_the_one_that_either_setting_names(base: str, public: str | None, path: str) -> None:
    assert DashboardSettings(base_path=base, public_url=public).path == path


@pytest.mark.parametrize("public", ["https://h.example", "https://h.example/other"])
def test_two_paths_are_refused(public: str) -> None:
    with pytest.raises(InputError, match="name two paths"):
        _ = DashboardSettings(base_path="/cmssd", public_url=public).path


def test_secrets_leave_the_environment_once_read() -> None:
    """Of this process, of its children, and of the block that /proc shows."""
    program = (
        "import subprocess, sys\n"
        "from dashboard.config import dashboard_settings, forget_secrets\n"
        "forget_secrets()\n"
        "assert dashboard_settings().cookie_secret.get_secret_value() == 'k' * 40\n"
        "sys.stdout.write(open('/proc/self/environ').read())\n"
        "sys.stdout.flush()\n"
        "subprocess.run(['env'])\n"
    )
    secret = {
        "CMSSD_COOKIE_SECRET": "k" * 40,
        "cmssd_oidc_client_secret": "told-by",
        "CMSSD_REVIEWS": "postgresql://a:pw@h/d",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | secret | {"CMSSD_ROLE_CLAIM": "seen"},
    )  # fmt: skip
    assert done.stdout.count("CMSSD_ROLE_CLAIM=seen") == 2, "both were looked at"
    assert not [value for value in secret.values() if value in done.stdout]
