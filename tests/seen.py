"""What a person sees and does in a real browser."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image


def settled(page) -> None:
    """Until Streamlit runs nothing and no tile was drawn for half a second."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    before = None
    for _ in range(60):
        now = slide(page).get_attribute("data-tiles")
        if now == before:
            return
        before = now
        page.wait_for_timeout(500)


def mri(page):
    return page.locator(".stage").nth(0)


def slide(page):
    return page.locator(".stage").nth(1)


def pixels(stage) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(stage.screenshot())).convert("RGB")).astype(int)


def until(page, true, what: str) -> None:
    for _ in range(400):
        if true():
            return
        page.wait_for_timeout(250)
    pytest.fail(f"never: {what}")


def click_at(page, stage, x: float, y: float) -> None:
    box = stage.bounding_box()
    page.mouse.click(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
