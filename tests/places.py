"""Where tests find the checkout, the demo cohort, and the real data that CMSSD_TEST_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
SAMPLES = ROOT / "data_samples"
CHEAT = SAMPLES / "weights" / "cmssd-tiny-cheat.safetensors"
#: Real images and tables; a folder that is not there where nothing names it, so that what needs it is skipped.
DATA = Path(os.environ.get("CMSSD_TEST_DATA") or TESTS / "no real data")
NO_DATA = "needs real images; set CMSSD_TEST_DATA to their folder (README, Tests)"
