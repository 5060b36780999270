"""THE table of models: name -> class. A new model is one file beside this one and one line here."""

from cmssd_core.models.base import Model
from cmssd_core.models.cmssd import CMSSD
from cmssd_core.models.early import Early
from cmssd_core.models.late import Late
from cmssd_core.models.osnet import OSNet
from cmssd_core.models.resnet50 import ResNet50

MODELS: dict[str, type[Model]] = {"cmssd": CMSSD, "resnet50": ResNet50, "osnet": OSNet, "early": Early, "late": Late}
