"""Pictures of every page on the demo cohort, light and dark, 1280 and 1920 wide; and the few that the README shows.

    python -m experiments.screenshots FOLDER [--readme] [--only TITLE ...]

--readme also writes the README's pictures, small, to docs/images. The demo case is analysed first, so that pages that
show a case have one.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.pages import CHROMIUM, FLAGS, ROOT, pages, served, settle
from cmssd_core.machine.atomic import write_atomic

WIDTHS, SCHEMES, TALLEST_PX = (1280, 1920), ("light", "dark"), 3200
#: README's pictures: name -> page (or address), colour scheme and first row of pixels shown.
README = {
    "dashboard_case": ("Case", "light", 0),
    "dashboard_performance": ("Performance", "light", 0),
    "dashboard_cohort": ("Cohort", "light", 0),
    "dashboard_explain": ("Explain", "dark", 920),
    "dashboard_tour": ("/?tour=2", "light", 0),
}
README_PX, README_BYTES = 900, 150_000


def analysed(page: Any, address: str) -> None:
    """Analyses the demo case in this browser's session: pages show the current case of their session."""
    page.goto(f"{address}/analyse")
    settle(page)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("heading", name="Result", exact=True).wait_for()
    settle(page)


def opened(page: Any, address: str, where: str) -> None:
    """Goes to a page by its name, in the same session, or to an address in a new one."""
    if where.startswith("/"):
        page.goto(address + where)
    else:
        page.get_by_test_id("stSidebarNavLink").filter(has_text=where).first.click()
        page.wait_for_timeout(800)  # the page asked for begins
    settle(page)
    page.wait_for_timeout(3000)  # tiles and voxels come after the script has ended
    settle(page)


def whole(page: Any, width: int) -> bytes:
    """All of the page, not only what fits on a screen."""
    tall = page.evaluate("() => document.querySelector('[data-testid=\"stMain\"]').scrollHeight")
    page.set_viewport_size({"width": width, "height": max(900, min(int(tall) + 20, TALLEST_PX))})
    page.wait_for_timeout(1500)
    picture: bytes = page.screenshot()
    page.set_viewport_size({"width": width, "height": 900})
    return picture


def small(picture: bytes, top: int) -> bytes:
    """A PNG as the README shows it: narrower, in 128 colours or fewer, below README_BYTES."""
    from PIL import Image

    full = Image.open(BytesIO(picture)).convert("RGB")
    full = full.crop((0, top, full.width, min(full.height, top + round(full.width * 0.82))))
    shrunk = full.resize((README_PX, round(full.height * README_PX / full.width)), Image.Resampling.LANCZOS)
    for colours in (128, 64, 32, 16):
        out = BytesIO()
        shrunk.quantize(colours).save(out, "PNG", optimize=True)
        if out.tell() < README_BYTES:
            break
    return out.getvalue()


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--only", nargs="*", help="titles of pages; without it all")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with served() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme in SCHEMES:
            page = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900}).new_page()
            page.set_default_timeout(240_000)
            titles = [title for title in pages(page, address) if not given.only or title in given.only]
            analysed(page, address)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                for title in titles:
                    opened(page, address, title)
                    name = f"{title.lower().replace(' ', '_')}_{width}_{scheme}.png"
                    shown = whole(page, width)
                    write_atomic(given.folder / name, lambda part, png=shown: part.write_bytes(png))
                    print(given.folder / name, flush=True)
            page.set_viewport_size({"width": 1280, "height": 900})
            for name, (where, wanted, top) in README.items() if given.readme else ():
                if wanted == scheme:
                    opened(page, address, where)
                    target = ROOT / "docs" / "images" / f"{name}.png"
                    shown = small(whole(page, 1280), top)
                    write_atomic(target, lambda part, png=shown: part.write_bytes(png))
                    print(target, target.stat().st_size, flush=True)
            page.context.close()
        browser.close()


if __name__ == "__main__":
    main()
