"""Pages without a browser: opened by AppTest, and all that one says."""

from __future__ import annotations

from places import ROOT
from streamlit.testing.v1 import AppTest


def opened(page: str = "analyse", **state: object) -> AppTest:
    """A page, with the values of its controls by key."""
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=240).run()
    if page != "overview":
        app.switch_page(f"../pages/{page}.py")
        for name, value in state.items():
            app.session_state[name] = value
        app.run()
    assert not app.exception
    return app


def everything(app: AppTest) -> str:
    return " ".join(str(e.value) for kind in ("markdown", "error", "warning", "info", "metric") for e in app.get(kind))
