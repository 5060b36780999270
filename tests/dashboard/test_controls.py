"""Laws of mistakes on screen: a field of the core is named by a control that is there, and by no flag."""

from __future__ import annotations

import re

from places import ROOT

from cmssd_core.commands.terminal import FLAGS
from cmssd_core.types import InputError
from dashboard.controls import CONTROLS, name_control


def test_every_control_that_is_named_stands_on_a_page() -> None:
    paths = [path for room in ("dashboard", "pages") for path in (ROOT / room).rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths if path.name != "controls.py")
    for text in CONTROLS.values():
        for label in re.findall("“(.+?)”", text):
            assert f'"{label}"' in source, label


def test_controls_are_of_fields_that_the_command_line_knows_too() -> None:
    assert set(CONTROLS) <= set(FLAGS)


def test_a_mistake_names_its_control_where_there_is_one() -> None:
    mistake = InputError("tile.png says no microns per pixel; say them", "mpp")
    assert name_control(mistake) == f"{mistake} (“Microns per pixel of the slide”)"
    assert name_control(InputError("a folder is needed; name one", "out")) == "a folder is needed; name one"
    assert name_control(InputError("try again")) == "try again"
