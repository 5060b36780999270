"""Whatever text comes as annotations becomes lean GeoJSON or one sentence."""

from __future__ import annotations

import json

import pytest

from cmssd_core.slide.geojson import NAME_LIMIT, read_geojson
from cmssd_core.types import InputError

SQUARE = [[[1, 1], [9, 1], [9, 9], [1, 1]]]


def feature(properties: object = None, coordinates: object = SQUARE, kind: object = "Polygon") -> dict[str, object]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def told(one: object) -> dict:
    return read_geojson(json.dumps(one).encode(), width=100, height=100)


@pytest.mark.parametrize("properties", [None, [], ["a"], "text", 3, 1.5, True, {}, {"classification": [1]},
                                        {"classification": {"name": [1]}}, {"classification": {"name": {}}},
                                        {"classification": 7}])  # fmt: skip
def test_properties_of_any_kind_that_name_no_class_leave_the_shape(properties: object) -> None:
    (read,) = told(feature(properties))["features"]
    assert read["geometry"]["coordinates"] == SQUARE
    assert read["properties"] == {}


def test_the_name_of_a_class_is_a_short_text_that_can_be_written() -> None:
    for name in ("x" * 10**6, "Tumor", "\ud800"):
        (read,) = told(feature({"classification": {"name": name}}))["features"]
        kept = read["properties"]["classification"]["name"]
        assert len(kept) <= NAME_LIMIT
        kept.encode()


@pytest.mark.parametrize("number", ["9" * 4000, "-" + "9" * 5000, "1e999", "1e300", "NaN", "Infinity", '"1"', "true",
                                    "null", "[1]", "{}"])  # fmt: skip
def test_a_corner_that_no_slide_has_is_a_sentence(number: str) -> None:
    content = f'{{"type": "Feature", "geometry": {{"type": "Point", "coordinates": [{number}, 1]}}}}'.encode()
    with pytest.raises(InputError, match="no pairs of numbers"):
        read_geojson(content, width=100, height=100)


@pytest.mark.parametrize(("kind", "coordinates"), [
    ("Polygon", [1, 2]), ("Polygon", [[1, 2]]), ("Point", SQUARE), ("MultiPolygon", SQUARE), ("LineString", [1, 2]),
    ("Polygon", {}), ("Polygon", None), ("Polygon", "x"), ("Polygon", []), ("Polygon", [[]]), ("Point", [1]),
])  # fmt: skip
def test_corners_that_lie_deeper_or_shallower_than_the_kind_says_are_a_sentence(kind: str, coordinates: object) -> None:
    with pytest.raises(InputError, match="no pairs of numbers"):
        told(feature(coordinates=coordinates, kind=kind))


@pytest.mark.parametrize("kind", ["GeometryCollection", "Circle", 3, ["Polygon"], {}, None])
def test_a_shape_of_another_kind_is_named_not_left_out(kind: object) -> None:
    with pytest.raises(InputError, match="another kind than Point"):
        told([feature(), feature(kind=kind)])


def test_a_measurement_may_be_nan_as_qupath_writes_it() -> None:
    assert told(feature({"measurements": {"Solidity": float("nan")}}))["features"]


def test_what_is_read_twice_in_one_object_is_refused() -> None:
    content = b'{"type":"Feature","geometry":{"type":"Point","coordinates":[1,1],"coordinates":[9,9]}}'
    with pytest.raises(InputError, match="'coordinates' twice"):
        read_geojson(content, width=100, height=100)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 200_000, b"[" * 900 + b"]" * 900,
                                     b'{"features": 3}', b"null", b"3", b'"text"', b"\x00" * 50])  # fmt: skip
def test_any_other_text_is_a_sentence(content: bytes) -> None:
    with pytest.raises(InputError):
        read_geojson(content, width=100, height=100)
