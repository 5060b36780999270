"""Deep Zoom tiles of a slide: a pool of open files, a bounded cache of tiles, the same pixels as OpenSlide's own.

Label and macro images are never asked for. A file that has no coarse levels is shrunk once, in blocks, to an overview
from which its coarse tiles are cut: OpenSlide would decode the whole file for each of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from openslide import AbstractSlide
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from cmssd_core.slide.pixels import OpenedSlide, open_source, thumbnail
from cmssd_core.slide.stain import Stain, normalise
from cmssd_core.types import Slide

TILE_PX, OVERLAP_PX = 254, 1  # a tile inside the slide is 256 x 256
QUALITY = 88
#: One tile may decode at most this many source pixels.
_DEEPEST_PX = 2048 * 2048
_OVERVIEW_PX = 4096

FileKey = tuple[str, int, int]


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
    overview: tuple[Image.Image, float] | None = None  # with level-0 px per overview px
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handles:
    """Open slides, shared by threads; a slide in use is never closed, and of idle ones at most `most` stay open."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._open: OrderedDict[FileKey, _Open] = OrderedDict()
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
                source = open_source(path)
                one = _Open(source, DeepZoomGenerator(source, TILE_PX, OVERLAP_PX, limit_bounds=False))
                self._open[key] = one
            self._open.move_to_end(key)
            one.users += 1
        try:
            yield one
        finally:
            with self._lock:
                one.users -= 1
                self._close_idle()

    def forget(self, path: Path) -> None:
        """Closes a file that is idle."""
        with self._lock:
            for key in [key for key, one in self._open.items() if key[0] == str(path) and not one.users]:
                self._open.pop(key).source.close()

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
    told = path.stat()
    return str(path), told.st_mtime_ns, told.st_size


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
    Raises InputError where the file cannot be opened, OpenSlideError where it cannot be decoded there.
    """
    painted = None if stain is None else (*stain.vectors.ravel().tolist(), *stain.max_concentration.tolist())
    key = (*file_key(slide.path), painted, level, column, row)
    known = cache.get(key)
    if known is not None:
        return known
    with handles.leased(slide.path) as opened:
        columns_rows = opened.zoom.level_tiles[level] if 0 <= level < opened.zoom.level_count else (0, 0)
        if not (0 <= column < columns_rows[0] and 0 <= row < columns_rows[1]):
            return None
        picture = _cut(slide, opened, level, column, row)
    if stain is not None:
        picture = Image.fromarray(normalise(np.asarray(picture), source=stain))
    out = BytesIO()
    picture.save(out, "JPEG", quality=QUALITY, subsampling=0)
    cache.put(key, out.getvalue())
    return out.getvalue()


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
            pixels, scale = thumbnail(OpenedSlide(slide, opened.source), max_px=_OVERVIEW_PX)
            opened.overview = Image.fromarray(pixels), scale
    overview, scale = opened.overview
    left, top = (column * TILE_PX - OVERLAP_PX * (column > 0)), (row * TILE_PX - OVERLAP_PX * (row > 0))
    size = zoom.get_tile_dimensions(level, (column, row))
    ratio = downsample / scale
    right, bottom = min((left + size[0]) * ratio, overview.width), min((top + size[1]) * ratio, overview.height)
    return overview.resize(size, Image.Resampling.BOX, box=(left * ratio, top * ratio, right, bottom))
