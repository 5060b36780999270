"""Files uploaded in a real browser, as a person would."""

from __future__ import annotations

from pathlib import Path


def choose_files(page, server) -> None:
    page.goto(f"{server[0]}/analyse")
    page.get_by_role("heading", name="Analyse a case").wait_for()
    page.get_by_text("Your files").click()


def upload(page, slot: int, *paths: Path) -> None:
    page.locator("input[type=file]").nth(slot).set_input_files([str(path) for path in paths])
    page.get_by_role("button", name=f"Remove {paths[0].name}").wait_for()  # names are shortened on screen, not here
