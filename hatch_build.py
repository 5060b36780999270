"""Builds the viewers' JavaScript before a wheel is packed or a checkout is installed in place."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Viewers(BuildHookInterface):  # type: ignore[type-arg]
    """A wheel without the viewers is refused; a checkout without them works, with plain pictures."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files; `version` is "standard" or "editable"."""
        if self.target_name != "wheel":
            return
        # By its path: the package itself cannot be imported in the environment that builds it.
        path = Path(self.root) / "dashboard" / "viewers" / "build.py"
        spec = importlib.util.spec_from_file_location("cmssd_viewers_build", path)
        assert spec is not None
        assert spec.loader is not None
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        try:
            build.build()
        except build.BuildError as problem:
            if version != "editable":
                raise
            self.app.display_warning(f"the interactive viewers were not built: {problem}")
