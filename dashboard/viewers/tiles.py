"""Deep Zoom tiles of a slide: a pool of open files, a bounded cache of tiles, the same pixels as OpenSlide's own.

Label and macro images are never asked for. A file that has no coarse levels is shrunk once, in blocks, to an overview
from which its coarse tiles are cut: OpenSlide would decode the whole file for each of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from openslide import AbstractSlide, OpenSlideError
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image, ImageDraw

from cmssd_core.slide.pixels import UNREADABLE, UnreadablePlaceError, open_source, thumbnail
from cmssd_core.slide.stain import Stain, normalise
from cmssd_core.types import Slide

TILE_PX, OVERLAP_PX = 254, 1  # a tile inside the slide is 256 x 256
QUALITY = 88
#: One tile may decode at most this many source pixels.
_DEEPEST_PX = 2048 * 2048
_OVERVIEW_PX = 4096

FileKey = tuple[str, int, int]
#: A slide small, and its level-0 px per overview px.
Overview = tuple[Image.Image, float]


@dataclass(frozen=True)
class Pyramid:
    """What the browser needs to know of a slide: level-0 size in px and the number of Deep Zoom levels."""

    width: int
    height: int
    levels: int


@dataclass(eq=False)
class _Open:
    source: AbstractSlide
    zoom: DeepZoomGenerator
    users: int = 0
    failed: bool = False
    overview: Overview | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def _opened(source: AbstractSlide, overview: Overview | None) -> _Open:
    zoom = DeepZoomGenerator(source, TILE_PX, OVERLAP_PX, limit_bounds=False)
    return _Open(source, zoom, overview=overview)


class Handles:
    """Open slides, shared by threads; a slide in use is never closed, and of idle ones at most `most` stay open."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._open: OrderedDict[FileKey, _Open] = OrderedDict()
        self._overviews: dict[FileKey, Overview] = {}  # of dropped slides, for who opens them next
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def leased(self, path: Path) -> Iterator[_Open]:
        """One slide, open for as long as the block runs. Raises InputError where it cannot be opened."""
        key = file_key(path)
        with self._lock:
            one = self._open.get(key)
            if one is None:
                one = _opened(open_source(path), self._overviews.pop(key, None))
                self._open[key] = one
            self._open.move_to_end(key)
            one.users += 1
        try:
            yield one
        finally:
            with self._lock:
                one.users -= 1
                if one.failed and not one.users:
                    one.source.close()
                self._close_idle()

    def drop(self, one: _Open) -> None:
        """Takes a failed slide out of the pool; it is closed once nobody reads it, and the next lease opens anew."""
        with self._lock:
            if one.failed:
                return
            for key in [key for key, other in self._open.items() if other is one]:
                del self._open[key]
                if one.overview is not None:
                    self._overviews[key] = one.overview
            one.failed = True
            if not one.users:
                one.source.close()

    def forget(self, path: Path) -> None:
        """Closes a file that is idle."""
        with self._lock:
            for key in [key for key, one in self._open.items() if key[0] == str(path) and not one.users]:
                self._open.pop(key).source.close()
            for key in [key for key in self._overviews if key[0] == str(path)]:
                del self._overviews[key]

    def _close_idle(self) -> None:
        for key in [key for key, one in self._open.items() if not one.users]:
            if len(self._open) <= self._most:
                return
            self._open.pop(key).source.close()


class TileCache:
    """Finished tiles, the least recently asked for dropped above `limit_bytes`."""

    def __init__(self, limit_bytes: int = 64_000_000) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._tiles: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...]) -> bytes | None:
        """A tile, or None."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def put(self, key: tuple[object, ...], tile: bytes) -> None:
        """Keeps a tile."""
        with self._lock:
            self.size_bytes += len(tile) - len(self._tiles.pop(key, b""))
            self._tiles[key] = tile
            while self.size_bytes > self.limit_bytes:
                self.size_bytes -= len(self._tiles.popitem(last=False)[1])

    def forget(self, path: Path) -> None:
        """Drops all tiles of a file."""
        with self._lock:
            for key in [key for key in self._tiles if key[0] == str(path)]:
                self.size_bytes -= len(self._tiles.pop(key))


HANDLES, CACHE = Handles(), TileCache()


def file_key(path: Path) -> FileKey:
    """A file's identity while the program runs: another file under the same name is another slide."""
    summary = path.stat()
    return str(path), summary.st_mtime_ns, summary.st_size


def forget(path: Path) -> None:
    """Lets go of a slide that no session holds any more."""
    CACHE.forget(path)
    HANDLES.forget(path)


def pyramid(slide: Slide) -> Pyramid:
    """Size and Deep Zoom levels of a slide, from its level sizes alone."""
    width, height = slide.level_sizes[0]
    return Pyramid(width, height, (max(width, height) - 1).bit_length() + 1)


def tile(
    slide: Slide,
    *,
    level: int,
    column: int,
    row: int,
    stain: Stain | None = None,
    handles: Handles = HANDLES,
    cache: TileCache = CACHE,
) -> bytes | None:
    """One tile as JPEG, None where the pyramid has no such tile. level 0 = one pixel, as Deep Zoom counts.

    stain: the slide's own; with it the tile is redrawn in the reference's colours.
    A tile that cannot be decoded is a hatched grey one. Raises InputError where the file cannot be opened.
    """
    painted = None if stain is None else (*stain.vectors.ravel().tolist(), *stain.max_concentration.tolist())
    key = (*file_key(slide.path), painted, level, column, row)
    known = cache.get(key)
    if known is not None:
        return known
    try:
        with handles.leased(slide.path) as opened:
            columns_rows = opened.zoom.level_tiles[level] if 0 <= level < opened.zoom.level_count else (0, 0)
            if not (0 <= column < columns_rows[0] and 0 <= row < columns_rows[1]):
                return None
            size = opened.zoom.get_tile_dimensions(level, (column, row))
            picture = _cut(slide, opened, level, column, row)
    except (OpenSlideError, UnreadablePlaceError):
        handles.drop(opened)
        # A request beside this one may have spoilt that handle: what one of its own cannot read cannot be read.
        with closing(open_source(slide.path)) as alone:
            picture = _try_to_cut(slide, _opened(alone, opened.overview), level, column, row)
    if picture is None:
        picture, stain = _hatched(size), None
    if stain is not None:
        picture = Image.fromarray(normalise(np.asarray(picture), source=stain))
    out = BytesIO()
    picture.save(out, "JPEG", quality=QUALITY, subsampling=0)
    cache.put(key, out.getvalue())
    return out.getvalue()


def _try_to_cut(slide: Slide, opened: _Open, level: int, column: int, row: int) -> Image.Image | None:
    try:
        return _cut(slide, opened, level, column, row)
    except (OpenSlideError, UnreadablePlaceError):
        return None


def _hatched(size: tuple[int, int]) -> Image.Image:
    """What stands for a tile that cannot be decoded: no stain has these colours, and no glass these lines."""
    picture = Image.new("RGB", size, UNREADABLE)
    draw = ImageDraw.Draw(picture)
    for x in range(-size[1], size[0], 16):
        draw.line((x, size[1], x + size[1], 0), fill=(90, 90, 90), width=2)
    return picture


def _cut(slide: Slide, opened: _Open, level: int, column: int, row: int) -> Image.Image:
    zoom = opened.zoom
    downsample = 2.0 ** (zoom.level_count - 1 - level)
    best = opened.source.get_best_level_for_downsample(downsample)
    span = TILE_PX * downsample / opened.source.level_downsamples[best]
    width, height = opened.source.level_dimensions[best]
    if min(span, width) * min(span, height) <= _DEEPEST_PX:
        picture: Image.Image = zoom.get_tile(level, (column, row))
        return picture
    with opened.lock:
        if opened.overview is None:
            # From a handle of its own: thumbnail replaces one that fails.
            pixels, scale = thumbnail(slide, max_px=_OVERVIEW_PX)
            opened.overview = Image.fromarray(pixels), scale
    overview, scale = opened.overview
    left, top = (column * TILE_PX - OVERLAP_PX * (column > 0)), (row * TILE_PX - OVERLAP_PX * (row > 0))
    size = zoom.get_tile_dimensions(level, (column, row))
    ratio = downsample / scale
    right, bottom = min((left + size[0]) * ratio, overview.width), min((top + size[1]) * ratio, overview.height)
    return overview.resize(size, Image.Resampling.BOX, box=(left * ratio, top * ratio, right, bottom))
