"""A tool's three steps in this process, on a folder that has images."""

from pathlib import Path
from typing import Any

from distributed_downloader.settings import Settings
from distributed_downloader.tools.job import Job
from distributed_downloader.tools.steps import run_filter, run_runner, run_scheduler
from tests.unit.conftest import make_settings


class ToolInProcess:
    """A tool of a run with these settings."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.name = name
        self.folder = settings.paths.tools / name

    def pick(self) -> int:
        """The filter; how many images it picked."""
        return run_filter(self.settings, self.name)

    def is_due(self) -> bool:
        """Whether filter and scheduler find something to do."""
        self.pick()
        return bool(run_scheduler(self.settings, self.name)["is_due"])

    def run(self) -> dict[str, Any]:
        """All three; what came of it."""
        self.is_due()
        result = run_runner(self.settings, self.name, Job())
        assert result is not None
        return result


class OneTool(ToolInProcess):
    """A tool over the images of `root`, with these tools_parameters."""

    def __init__(self, root: Path, name: str, **parameters: Any) -> None:
        given = {"path_to_output": str(root), "tools_parameters": parameters}
        super().__init__(make_settings(root, **given), name)
