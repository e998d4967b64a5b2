"""A tool's three steps in this process, on a folder that has images."""

from pathlib import Path
from typing import Any

from distributed_downloader.tools.job import Job
from distributed_downloader.tools.steps import run_filter, run_runner, run_scheduler
from tests.unit.conftest import make_settings


class OneTool:
    """A tool over the images of `root`, with these tools_parameters."""

    def __init__(self, root: Path, name: str, **parameters: Any) -> None:
        self.settings = make_settings(
            root, path_to_output=str(root), tools_parameters={"workers_per_node": 1, **parameters}
        )
        self.name = name
        self.folder = self.settings.paths.tools / name

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
