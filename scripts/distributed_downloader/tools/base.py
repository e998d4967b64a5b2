"""What every step of a tool has: its settings, its name, and where its files lie.

Some of it has two names: the second is the predecessor's, so that its tools run here.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.errors import ConfigError
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.settings import Settings

# A server as it is, or as its folder is called: filters of the predecessor list folders.
SERVER_NAME = pl.col("server_name").str.replace_many(["%3A", "%5B", "%5D"], [":", "[", "]"])


class ToolConfig:
    """What a step is made with: the settings, by the predecessor's words too, and the tool's name.

    `cfg["tools_parameters"]["threshold_size"]`, `cfg.get_folder("images_folder")`, `cfg.settings`.
    """

    def __init__(self, settings: Settings, tool: str) -> None:
        self.settings = settings
        self.tool = tool

    def __getitem__(self, key: str) -> Any:
        return self.settings.raw[key]

    def get_folder(self, name: str) -> str:
        """The absolute path of a key of `output_structure`, or of path_to_output."""
        root, structure = self.settings.paths.root, self.settings.raw["output_structure"]
        if name in ("path_to_output", "path_to_output_folder"):
            return str(root)
        if name not in structure:
            raise ConfigError(f"There is no folder {name!r}: take one of {', '.join(structure)}.")
        return str(root / structure[name])


class ToolsBase:
    """One step of a tool: made with its config, then run."""

    def __init__(self, cfg: ToolConfig) -> None:
        self.config = cfg
        self.filter_name = cfg.tool
        self.logger = logging.getLogger(type(self).__module__)

    @property
    def settings(self) -> Settings:
        """Everything that was configured."""
        return self.config.settings

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The section `tools_parameters`."""
        section: Mapping[str, Any] = self.settings.raw["tools_parameters"]
        return section

    @property
    def own_parameters(self) -> Mapping[str, Any]:
        """What `tools_parameters.own` says under this tool's name: settings that only it knows."""
        section: Mapping[str, Any] = self.parameters["own"].get(self.filter_name, {})
        return section

    @property
    def paths(self) -> OutputPaths:
        """Where everything of the output folder lies."""
        return self.settings.paths

    @property
    def tools_path(self) -> str:
        """The folder of all tools."""
        return str(self.paths.tools)

    @property
    def downloaded_images_path(self) -> str:
        """The folder of all batches' images."""
        return str(self.paths.images)

    @property
    def urls_path(self) -> str:
        """The folder of all batches' URLs."""
        return str(self.paths.urls)

    @property
    def total_workers(self) -> int:
        """Most ranks of the tool."""
        return int(self.parameters["max_nodes"] * self.parameters["workers_per_node"])

    @property
    def folder(self) -> Path:
        """The tool's own folder: what it makes lies here."""
        return self.paths.tools / self.filter_name

    @property
    def filter_table(self) -> Path:
        """CSV files with the images that the filter picked."""
        return self.folder / "filter_table"

    @property
    def schedule_table(self) -> Path:
        """Which rank begins with which partition."""
        return self.folder / "schedule.csv"

    @property
    def verification(self) -> Path:
        """A CSV file for each rank: the partitions that are done."""
        return self.folder / "verification"

    def batches(self) -> list[Batch]:
        """The partitions that have a folder of images, in the order of their names."""
        folders = self.paths.images.glob("server_name=*/partition_id=*")
        return sorted(Batch.from_folder(folder) for folder in folders)

    def run(self) -> None:
        """Do the step."""
        raise NotImplementedError(f"{type(self).__name__} has no method run")
