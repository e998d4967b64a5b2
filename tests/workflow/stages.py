"""Stage scripts in a process of their own that may die, without the second that imports cost.

A fork server imports the library once; each play is a fork of it that runs real scripts, as
`__main__` and with the arguments that the rules give them, on one rank.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from distributed_downloader.configuration.effective import write_effective_config
from distributed_downloader.durable import read_json
from distributed_downloader.running.begin import settings_for
from distributed_downloader.waves.due import first_wave, next_wave_is_due

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TIMEOUT_S = 60
MPI_LEAVES = Path("/dev/shm/mpich_shm_{:x}_0")  # 1 MB, of a process that MPI did not see end
IMPORTED_ONCE = [
    "__main__",  # else each play would import pytest
    "distributed_downloader.lists.partition",
    "distributed_downloader.waves.growing",
    "distributed_downloader.waves.planning",
    "distributed_downloader.waves.profiles",
    "distributed_downloader.accounts.verification",
    "distributed_downloader.waves.wave",
    "distributed_downloader.tools.steps",
    "tests.workflow.stages",
]


class Stages:
    """Plays stages: partition, grow, profile, schedule, download, verify; wave and waves are short
    for the next schedule and download, and for those that are due.
    A tool's name is short for its three steps.
    """

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(IMPORTED_ONCE)
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (SCRIPTS, SCRIPTS.parent)))

    def play(self, given: dict[str, Any], *stages: str, crash_at: str = "") -> int:
        """The exit code (negative: the signal) of these stages, one after the other."""
        process = self._context.Process(target=_play, args=(given, stages, crash_at))
        process.start()
        process.join(TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join()
            raise TimeoutError(f"{stages} did not end")
        MPI_LEAVES.with_name(MPI_LEAVES.name.format(process.pid)).unlink(missing_ok=True)
        code = process.exitcode
        process.close()
        assert code is not None
        return code


def _play(given: dict[str, Any], stages: Sequence[str], crash_at: str) -> None:
    settings = settings_for(given)
    config = write_effective_config(settings.raw, settings.paths.configs)
    if crash_at:
        os.environ["DOWNLOADER_CRASH_AT"] = crash_at
    said = settings.paths.root / "said.txt"
    with said.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        for stage in stages:
            for words in _command_lines(stage, settings):
                script, *rest = words
                log = settings.paths.logs / stage / "rank-0.log"
                sys.argv = [script, "--config", str(config), "--log", str(log), *rest]
                runpy.run_path(str(SCRIPTS / script), run_name="__main__")
                signal.alarm(0)  # a rank would have left by now (mpi.leave_in_time)


def _command_lines(stage: str, settings: Any) -> Any:
    first = wave = first_wave(settings.paths)
    match stage:
        case "partition":
            yield ["partition_urls.py"]
        case "grow":
            yield ["grow_list.py"]
        case "profile":
            yield ["profile_servers.py"]
        case "verify":
            yield ["verify_dataset.py"]
        case "schedule":
            yield _schedule(wave, first)
        case "download":
            yield _download(wave)
        case "restore":
            yield ["restore_images.py"]
        case "wave":
            yield from _wave(wave, first)
        case "waves":
            while next_wave_is_due(settings.paths, settings, first=first, wave=wave):
                yield from _wave(wave, first)
                wave += 1
        case tool:
            flag = ["--flag", str(settings.paths.logs / "flag.json")]
            plan = settings.paths.logs / "plan.json"
            progress = ["--progress", str(settings.paths.logs / "progress.json")]
            yield ["filter_images.py", "--tool", tool, *flag]
            yield ["schedule_partitions.py", "--tool", tool, "--plan", str(plan)]
            if read_json(plan)["is_due"]:
                yield ["run_tool.py", "--tool", tool, "--ranks", "1", *progress]


def _wave(wave: int, first: int) -> Any:
    yield _schedule(wave, first)
    yield _download(wave)


def _schedule(wave: int, first: int) -> list[str]:
    return ["schedule_wave.py", "--wave", str(wave), "--first", str(first)]


def _download(wave: int) -> list[str]:
    return ["download_images.py", "--wave", str(wave), "--ranks", "1"]
