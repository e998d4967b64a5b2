"""The library at the top of the wheel; an editable installation finds it in scripts/ instead."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LibraryHook(BuildHookInterface):
    """The wheel's table of sources cannot say this: `scripts` wins over what lies in it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each build; `version` is standard or editable."""
        if version == "standard":
            build_data["force_include"]["scripts/distributed_downloader"] = "distributed_downloader"
