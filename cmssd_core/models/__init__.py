"""THE table of models: name -> class. A new model is one file beside this one and one line here."""

from cmssd_core.models.base import Model
from cmssd_core.models.cmssd import CMSSD

MODELS: dict[str, type[Model]] = {"cmssd": CMSSD}
