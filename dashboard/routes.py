"""The routes beside the screen: a slide's tiles, a volume's voxels and outlines, each for the session that holds it.

Who may fetch what is said in holdings.py. A request without the session's secret, without its browser's cookie or
without the right to see cases gets the same answer as one for what is not there: 404.
"""

from __future__ import annotations

from openslide import OpenSlideError
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cmssd_core.types import InputError
from dashboard import gate, headers, holdings, rights
from dashboard.headers import PRIVATE
from dashboard.holdings import HeldSlide, HeldVolume
from dashboard.viewers import bundle, nifti, tiles

_NOWHERE = {"Cache-Control": "no-store"}


def _held(request: Request) -> holdings.Held | None:
    holding = holdings.find_holding(request.path_params["secret"], request.cookies.get(holdings.COOKIE))
    if holding is None or not rights.request_may(request, "cases"):
        return None
    return holding.get(request.path_params["name"])


def _missing() -> Response:
    return Response("not found", 404, _NOWHERE)


def volume(request: Request) -> Response:
    """A volume's contrast or a map, as NIfTI."""
    held = _held(request)
    if not isinstance(held, HeldVolume):
        return _missing()
    # Not squeezed: on this machine's own loopback that costs more than it saves.
    return Response(
        nifti.encode(held.values, held.affine),
        media_type="application/octet-stream",
        headers=PRIVATE | {"Content-Encoding": "identity"},
    )


def tile(request: Request) -> Response:
    """One Deep Zoom tile of a slide, as JPEG."""
    held, place = _held(request), request.path_params
    if not isinstance(held, HeldSlide):
        return _missing()
    try:
        picture = tiles.tile(
            held.slide, level=place["level"], column=place["column"], row=place["row"], stain=held.stain
        )
    except (InputError, OSError, OpenSlideError):
        return _missing()
    return _missing() if picture is None else Response(picture, media_type="image/jpeg", headers=PRIVATE)


def outlines(request: Request) -> Response:
    """Annotations of a slide, as GeoJSON."""
    held = _held(request)
    if not isinstance(held, bytes):
        return _missing()
    return Response(held, media_type="application/geo+json", headers=PRIVATE)


def script(request: Request) -> Response:
    """A viewer's JavaScript, which knows no case."""
    name = request.path_params["name"]
    path = bundle.path(name)
    if path is None:
        return _missing()
    return Response(
        path.read_bytes(),
        media_type="text/javascript",
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


ROUTES = [
    Route("/viewers/{name}.js", script),
    Route("/held/{secret}/{name}.nii", volume),
    Route("/held/{secret}/{name}.geojson", outlines),
    Route("/held/{secret}/{name}/{level:int}/{column:int}_{row:int}.jpg", tile),
]
#: From the outside in: what every answer says, the browser's cookie, and who may have what.
MIDDLEWARE = [Middleware(headers.guard), Middleware(holdings.cookie), Middleware(gate.gate)]
