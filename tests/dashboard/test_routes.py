"""The routes beside the screen: a session's own browser is served, nobody else, and a tile is OpenSlide's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import awkward_slides
import numpy as np
import openslide
import pytest
import showcase
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image
from places import SAMPLES
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cmssd_core.slide import read as slides
from cmssd_core.slide.stain import REFERENCE, Stain, normalise
from cmssd_core.types import Slide, frozen
from dashboard import holdings, rights
from dashboard.holdings import HeldSlide, HeldVolume, Holding
from dashboard.routes import MIDDLEWARE, ROUTES
from dashboard.viewers import bundle, tiles

DEMO = SAMPLES / "cases" / "synth-00000" / "slide.tif"
MINE, THEIRS = "m" * 43, "t" * 43


async def page(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("a page")


APP = Starlette(routes=[*ROUTES, Route("/case", page)], middleware=MIDDLEWARE)


def fetch(
    path: str, *, browser: str | None = MINE, accept: str = "*/*", scheme: str = "http"
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of a GET, without a network."""
    headers = [(b"accept", accept.encode())]
    if browser is not None:
        headers.append((b"cookie", f"theme=dark; {holdings.COOKIE}={browser}".encode()))
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "scheme": scheme,
        "headers": headers, "http_version": "1.1", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": b""}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(APP(scope, receive, send))
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(part.get("body", b"") for part in sent[1:])


@pytest.fixture
def holding() -> Iterator[Holding]:
    made = Holding(session="one", browser=MINE)
    holdings._holdings[made.secret] = made
    yield made
    holdings._holdings.pop(made.secret, None)


@pytest.fixture
def demo() -> Slide:
    return slides.read(DEMO).value


@pytest.fixture
def plain(tmp_path: Path) -> Slide:
    path = tmp_path / "tile.png"
    path.write_bytes(showcase.tile(side=700))
    return slides.read(path, mpp=0.5).value


def volume_address(holding: Holding) -> str:
    voxels = showcase.volume()
    return holding.hold("volume", HeldVolume(voxels.voxels[0], voxels.affine)) + ".nii"


def test_a_session_serves_its_own_browser_and_no_other(holding: Holding) -> None:
    address = volume_address(holding)
    assert fetch(address)[0] == 200
    assert fetch(address, browser=None)[0] == 404
    assert fetch(address, browser=THEIRS)[0] == 404
    other = address.replace(holding.secret, Holding("two", MINE).secret)
    assert fetch(other)[0] == 404, "a secret that no session has opens nothing"
    assert fetch(address.replace("volume", "another"))[0] == 404


def test_a_session_whose_browser_brought_no_cookie_serves_nobody(holding: Holding) -> None:
    address = volume_address(holding)
    holding.browser = None
    assert fetch(address)[0] == 404
    assert fetch(address, browser=None)[0] == 404
    assert fetch(address, browser="")[0] == 404


def test_who_may_not_see_cases_is_served_none(holding: Holding, monkeypatch: pytest.MonkeyPatch) -> None:
    address = volume_address(holding)
    monkeypatch.setattr(rights, "request_may", lambda request, right: right != "cases")
    assert fetch(address)[0] == 404


def test_no_proxy_keeps_a_patients_images(holding: Holding, demo: Slide) -> None:
    for address in (volume_address(holding), holding.hold("slide", HeldSlide(demo, None)) + "/10/0_0.jpg"):
        status, headers, _ = fetch(address)
        assert status == 200
        assert headers["cache-control"] == "private, no-store"
        assert headers["x-content-type-options"] == "nosniff"
    assert fetch("/held/x/y.nii")[1]["cache-control"] == "no-store"


def test_a_page_gives_a_browser_its_secret_once() -> None:
    _, headers, _ = fetch("/case", browser=None, accept="text/html")
    name, _, rest = headers["set-cookie"].partition("=")
    value, *marks = rest.split("; ")
    assert name == holdings.COOKIE
    assert holdings._SECRET.fullmatch(value)
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(marks)
    assert "Secure" not in marks
    assert "Secure" in fetch("/case", browser=None, accept="text/html", scheme="https")[1]["set-cookie"]
    again = fetch("/case", browser=value, accept="text/html")[1]
    assert "set-cookie" not in again
    assert headers["cache-control"] == again["cache-control"] == "no-store", "a kept page would come without its cookie"
    assert "set-cookie" in fetch("/case", browser="forged", accept="text/html")[1]
    assert "set-cookie" not in fetch("/case", browser=None, accept="application/json")[1]
    assert value not in fetch("/case", browser=None, accept="text/html")[1]["set-cookie"]


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fetc%2fpasswd", "../../etc/passwd", "....//passwd", "/etc/passwd", "static/../mri", "made_of.txt"],
)
def test_traversal_finds_nothing(holding: Holding, name: str) -> None:
    for path in (f"/viewers/{name}.js", f"/viewers/{name}", f"/held/{holding.secret}/{name}.nii",
                 f"/held/{holding.secret}/{name}/0/0_0.jpg", f"/held/{name}/volume.nii"):  # fmt: skip
        assert fetch(path)[0] == 404


def test_a_gone_sessions_images_go_with_it_and_a_connected_ones_stay(holding: Holding) -> None:
    address = volume_address(holding)
    holdings.sweep(connected=lambda _: False, now_s=0.0)
    holdings.sweep(connected=lambda _: True, now_s=400.0)  # back after a lost connection
    holdings.sweep(connected=lambda _: False, now_s=500.0)
    assert fetch(address)[0] == 200
    holdings.sweep(connected=lambda _: False, now_s=800.0)
    assert fetch(address)[0] == 404
    assert not holding.things


def test_a_gone_sessions_tiles_go_unless_another_session_holds_the_slide(holding: Holding, plain: Slide) -> None:
    other = Holding(session="two", browser=THEIRS)
    holdings._holdings[other.secret] = other
    for each in (holding, other):
        each.hold("slide", HeldSlide(plain, None))
    assert fetch(f"/held/{holding.secret}/slide/9/0_0.jpg")[0] == 200
    key = (*tiles.file_key(plain.path), None, 9, 0, 0)
    for now_s in (0.0, 300.0):
        holdings.sweep(connected=lambda session: session == "two", now_s=now_s)
    assert tiles.CACHE.get(key) is not None
    for now_s in (300.0, 600.0):
        holdings.sweep(connected=lambda _: False, now_s=now_s)
    assert tiles.CACHE.get(key) is None
    assert not [opened for opened in tiles.HANDLES._open if opened[0] == str(plain.path)]


def test_a_session_never_holds_more_than_its_share(holding: Holding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "LIMIT_BYTES", 1000)
    monkeypatch.setattr(holdings, "KEPT", 2)
    for number in range(8):
        holding.hold(f"map{number}", HeldVolume(np.zeros((1, 20, 20), np.uint8), np.eye(4)))
    assert list(holding.things) == ["map6", "map7"]


def test_an_array_is_known_by_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.float32)
    assert holdings.digest(one) == holdings.digest(other)
    other[1, 1] = 1e-6
    assert holdings.digest(one) != holdings.digest(other)
    assert holdings.digest(one) != holdings.digest(np.zeros((4, 3), np.float32))
    kept = frozen(np.arange(24, dtype=np.float32).reshape(2, 3, 4).copy())
    first = holdings.digest(kept[1])
    asked = []
    monkeypatch.setattr(holdings, "_digest", lambda values: asked.append(values) or "anew")
    assert holdings.digest(kept[1]) == first
    assert not asked, "a read-only array is hashed once"
    assert holdings.digest(kept[0]) == "anew"


def expected(path: Path, level: int, column: int, row: int) -> bytes:
    with openslide.open_slide(path) as source:
        picture = DeepZoomGenerator(source, tiles.TILE_PX, tiles.OVERLAP_PX, limit_bounds=False).get_tile(
            level, (column, row)
        )
    return jpeg(picture)


def jpeg(picture: Image.Image) -> bytes:
    out = BytesIO()
    picture.save(out, "JPEG", quality=tiles.QUALITY, subsampling=0)
    return out.getvalue()


@pytest.mark.parametrize("which", ["demo", "plain"])
def test_a_tile_is_openslides_own(holding: Holding, request: pytest.FixtureRequest, which: str) -> None:
    slide: Slide = request.getfixturevalue(which)
    address, shape = holding.hold("slide", HeldSlide(slide, None)), tiles.pyramid(slide)
    with openslide.open_slide(slide.path) as source:
        zoom = DeepZoomGenerator(source, tiles.TILE_PX, tiles.OVERLAP_PX, limit_bounds=False)
        assert (zoom.level_count, zoom.level_dimensions[-1]) == (shape.levels, (shape.width, shape.height))
    for level, column, row in ((shape.levels - 1, 0, 0), (shape.levels - 1, 2, 2), (shape.levels - 2, 1, 0), (3, 0, 0)):
        status, headers, body = fetch(f"{address}/{level}/{column}_{row}.jpg")
        assert status == 200
        assert headers["content-type"] == "image/jpeg"
        assert body == expected(slide.path, level, column, row)
        assert fetch(f"{address}/{level}/{column}_{row}.jpg")[2] == body, "the cache gives the same"


def test_a_tile_beyond_the_pyramid_is_not_there(holding: Holding, demo: Slide) -> None:
    address = holding.hold("slide", HeldSlide(demo, None))
    for place in ("99/0_0", "10/9_0", "10/0_9", "0/1_0", "10/-1_0", "10/a_b", f"{10**30}/0_0"):
        assert fetch(f"{address}/{place}.jpg")[0] == 404


def test_a_slide_that_is_gone_from_the_disk_is_not_there(holding: Holding, plain: Slide) -> None:
    address = holding.hold("slide", HeldSlide(plain, None))
    plain.path.unlink()
    assert fetch(f"{address}/9/0_0.jpg")[0] == 404


def test_one_unreadable_tile_is_hatched_and_every_other_is_openslides_own(tmp_path: Path, holding: Holding) -> None:
    slide = slides.read(awkward_slides.spoilt_tile(tmp_path / "spoilt.tif")).value
    address, level = holding.hold("slide", HeldSlide(slide, None)), tiles.pyramid(slide).levels - 1
    asked = [(column, row) for _ in range(2) for row in range(4) for column in range(4)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda place: fetch(f"{address}/{level}/{place[0]}_{place[1]}.jpg"), asked))
    assert {status for status, _, _ in answers} == {200}
    hatched = {place for place, (_, _, body) in zip(asked, answers, strict=True)
               if np.ptp(np.asarray(Image.open(BytesIO(body))).astype(int), axis=-1).max() < 8}  # fmt: skip
    # Tiles of 254 px with a border of one: those that touch the spoilt x 512..767, y 256..511.
    assert hatched == {(column, row) for column in (2, 3) for row in (1, 2)}
    for place, (_, _, body) in zip(asked, answers, strict=True):
        if place not in hatched:
            assert body == expected(slide.path, level, *place)


def test_a_coarse_tile_over_an_unreadable_place_shows_the_rest(tmp_path: Path) -> None:
    path = awkward_slides.spoilt_tile(tmp_path / "spoilt.tif", edge=4096, at=(3, 5))
    slide = slides.read(path).value
    tile = tiles.tile(slide, level=tiles.pyramid(slide).levels - 6, column=0, row=0, handles=tiles.Handles(),
                      cache=tiles.TileCache())  # fmt: skip
    assert tile is not None
    grey = np.ptp(np.asarray(Image.open(BytesIO(tile))).astype(int), axis=-1) < 20
    assert grey.shape == (128, 128)
    assert grey[26:30, 42:46].all(), "256 px at x 1280, y 768 are 8 at x 40, y 24"
    assert grey.mean() < 0.02


def test_a_failed_handle_leaves_the_pool_and_is_closed(tmp_path: Path) -> None:
    slide = slides.read(awkward_slides.spoilt_tile(tmp_path / "spoilt.tif")).value
    handles = tiles.Handles()
    with handles.leased(slide.path) as opened:
        handles.drop(opened)
        assert len(handles) == 0
        assert opened.source.level_count == 1, "still open for whoever is in it"
    with pytest.raises(Exception, match=r"[Cc]losed"):
        opened.source.read_region((0, 0), 0, (1, 1))


def test_label_and_macro_images_are_never_opened(demo: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_self: object) -> None:
        raise AssertionError("a label or macro image was asked for")

    for kind in (openslide.OpenSlide, openslide.ImageSlide, openslide.AbstractSlide):
        monkeypatch.setattr(kind, "associated_images", property(forbidden))
    assert tiles.tile(demo, level=10, column=1, row=1, handles=tiles.Handles(), cache=tiles.TileCache())


def test_a_stained_tile_is_the_tile_normalised(demo: Slide) -> None:
    stain = Stain(REFERENCE.vectors[:, [0, 2, 1]], REFERENCE.max_concentration * 0.8)
    fresh = {"handles": tiles.Handles(), "cache": tiles.TileCache()}
    painted = tiles.tile(demo, level=10, column=1, row=1, stain=stain, **fresh)
    assert painted is not None
    with openslide.open_slide(DEMO) as source:
        original = DeepZoomGenerator(source, tiles.TILE_PX, tiles.OVERLAP_PX, limit_bounds=False).get_tile(10, (1, 1))
    assert painted == jpeg(Image.fromarray(normalise(np.asarray(original), source=stain)))
    assert painted != tiles.tile(demo, level=10, column=1, row=1, **fresh)


def test_coarse_tiles_of_a_file_without_levels_come_from_one_overview(tmp_path: Path) -> None:
    x = np.linspace(0, 255, 3200)
    pixels = np.stack(np.broadcast_arrays(x[None, :], x[:1500, None], 120.0), axis=-1).astype(np.uint8)
    path = tmp_path / "flat.png"
    Image.fromarray(pixels).save(path, compress_level=1)
    slide, handles = slides.read(path, mpp=0.5).value, tiles.Handles()
    level = tiles.pyramid(slide).levels - 6  # 32 px to one
    tile = tiles.tile(slide, level=level, column=0, row=0, handles=handles, cache=tiles.TileCache())
    assert tile is not None
    got = np.asarray(Image.open(BytesIO(tile))).astype(float)
    assert got.shape == (47, 100, 3)
    middle = pixels[: 46 * 32, : 99 * 32].reshape(46, 32, 99, 32, 3).mean((1, 3))
    assert np.abs(got[:46, :99] - middle).mean() < 3


def test_threads_share_handles_without_mixing_pixels(demo: Slide, tmp_path: Path) -> None:
    others = []
    for seed in range(3):
        path = tmp_path / f"{seed}.png"
        path.write_bytes(showcase.tile(side=600, seed=seed))
        others.append(slides.read(path, mpp=0.5).value)
    handles = tiles.Handles(most=1)
    asked = [(slide, tiles.pyramid(slide).levels - 1 - back, n % 2, n // 2) for slide in (demo, *others)
             for back in (0, 1) for n in range(4)] * 2  # fmt: skip
    alone = {n: tiles.tile(s, level=v, column=c, row=r, handles=tiles.Handles(), cache=tiles.TileCache())
             for n, (s, v, c, r) in enumerate(asked[: len(asked) // 2])}  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda a: tiles.tile(a[0], level=a[1], column=a[2], row=a[3], handles=handles,
                                                   cache=tiles.TileCache(0)), asked))  # fmt: skip
    assert all(tile == alone[n % len(alone)] for n, tile in enumerate(found))
    assert len(handles) == 1, "idle files are closed"


def test_a_slide_in_use_is_never_closed(demo: Slide, plain: Slide) -> None:
    handles = tiles.Handles(most=0)
    with handles.leased(demo.path) as opened:
        thread = threading.Thread(target=lambda: tiles.tile(plain, level=9, column=0, row=0, handles=handles,
                                                            cache=tiles.TileCache()))  # fmt: skip
        thread.start()
        thread.join()
        assert opened.source.read_region((0, 0), 0, (4, 4)).size == (4, 4)
    assert len(handles) == 0


def test_the_tile_cache_stays_in_its_bounds() -> None:
    cache = tiles.TileCache(limit_bytes=100)
    for number in range(10):
        cache.put((number,), bytes(30))
    assert cache.size_bytes <= 100
    assert cache.get((0,)) is None
    assert cache.get((9,)) == bytes(30)


def test_another_file_under_the_same_name_is_another_slide(plain: Slide) -> None:
    before = tiles.tile(plain, level=9, column=0, row=0)
    plain.path.write_bytes(showcase.tile(side=701, seed=9))
    after = tiles.tile(replace(plain, level_sizes=((701, 701),)), level=9, column=0, row=0)
    assert before != after


@pytest.mark.skipif(not bundle.ready(), reason="not built: python -m dashboard.viewers.build")
def test_the_viewers_scripts_are_served() -> None:
    for name in bundle.NAMES:
        status, headers, body = fetch(f"/viewers/{name}.js", browser=None)
        assert status == 200
        assert headers["content-type"].startswith("text/javascript")
        assert b"export" in body
