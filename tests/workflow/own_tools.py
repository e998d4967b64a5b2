"""Tools of a user's own: two files of one name."""

from pathlib import Path

PATIENT = """
import time
from distributed_downloader.tools import (
    DefaultScheduler, FilterRegister, MPIRunnerTool, PythonFilterToolBase, RunnerRegister,
    SchedulerRegister,
)

FilterRegister("patient")(PythonFilterToolBase)
SchedulerRegister("patient")(DefaultScheduler)

@RunnerRegister("patient")
class Patient(MPIRunnerTool):
    def process(self, partition):
        calls = self.folder / "calls"
        with calls.open("a") as lines:
            lines.write(f"{partition.batch.folder}\\n")
        while len(calls.read_text().splitlines()) == 2:  # the second takes all the time there is
            partition.tick(0)
            time.sleep(0.01)
        return len(partition.rows)
"""


def write_tool(folder: Path, tool: str, text: str) -> None:
    """Write the tool's module, and the rule that has it run."""
    (folder / f"{tool}.py").write_text(text)
    rule = f"rule {tool}:\n    input:\n        ran_tool({tool!r}),\n    localrule: True\n"
    (folder / f"{tool}.smk").write_text(rule)
