"""What a field of the core is called on screen: the control one has to look at after a mistake."""

from __future__ import annotations

from cmssd_core.types import InputError

#: Labels of controls by field. A field that no page asks for (a folder to write to, a seed) is not named.
CONTROLS: dict[str, str] = {
    "inputs": "“MRI” or “H&E slide or tile”",
    "mri": "“MRI”",
    "contrast": "“Contrast”",
    "he": "“H&E slide or tile”",
    "mpp": "“Microns per pixel of the slide”",
    "site": "“The biopsy site is known”",
    "method": "“Method”",
    "target": "“What is explained”",
}


def name_control(mistake: InputError) -> str:
    """A user's mistake as one line, the control it is about behind it where there is one."""
    control = CONTROLS.get(mistake.field or "")
    return f"{mistake} ({control})" if control else str(mistake)
