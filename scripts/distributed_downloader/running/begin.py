"""A run's first and last steps, in the process that runs the workflow.

1. Nothing is touched before everything is checked: settings, budgets, identity, the folder.
2. The run lock is taken: one run per output folder. A writer that an earlier run left behind is
   asked to end, and waited for.
3. What runs that died left half made in the folder's root is removed.
4. A signal asks the writer to stop: it stores what it has, whoever started it.
"""

import atexit
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from distributed_downloader.configuration.config import (
    load_settings,
    notices,
    resolve_config,
    settings_of,
)
from distributed_downloader.configuration.effective import effective_path, write_effective_config
from distributed_downloader.configuration.environment import CONFIG_VARIABLE
from distributed_downloader.configuration.identity import check_identity
from distributed_downloader.courtesy.budgets import check_budgets
from distributed_downloader.errors import InputError, LockError
from distributed_downloader.lists.filters import Filters
from distributed_downloader.lists.growth import growth_is_due
from distributed_downloader.lists.inputs import find_files
from distributed_downloader.lists.partition import check_folder
from distributed_downloader.lists.previous import check_previous
from distributed_downloader.lists.remote import is_remote, remote_files
from distributed_downloader.lists.sources import source_named
from distributed_downloader.logs import tell
from distributed_downloader.running.leftovers import remove_leftovers
from distributed_downloader.settings import Settings
from distributed_downloader.storage.lock import Lock, request_stop, stop_orphan
from distributed_downloader.waves.progress import watch
from distributed_downloader.wire.proxies import proxies_of

_asked_to_end = threading.Event()


def settings_for(given: Mapping[str, Any]) -> Settings:
    """The settings of what the user gave. Reads only. Raises ConfigError, FolderError."""
    settings = settings_of(resolve_config(given))
    check_budgets(settings)
    check_identity(settings)
    proxies_of(settings.proxy)
    source_named(settings.initializer_type)
    Filters(settings)
    return settings


def settings_of_run(given: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Settings, Path]:
    """The settings, and the file in which jobs find them.

    A job on another node reads the workflow anew: in its environment it finds the settings that its
    run began with, whatever the user has edited since. A run itself takes what it is given.
    """
    written = Path(environ.get(CONFIG_VARIABLE, ""))
    if written.is_file():
        return load_settings(written), written
    settings = settings_for(given)
    return settings, effective_path(settings.raw, settings.paths.configs)


def input_bytes(settings: Settings) -> float:
    """What `path_to_input` holds now; infinite if far away, and 0 if nothing is there."""
    if is_remote(settings.path_to_input):
        return math.inf
    try:
        return sum(file.stat().st_size for file in find_files(settings.path_to_input))
    except InputError:
        return 0


def generation_to_make(settings: Settings, environ: Mapping[str, str]) -> int | None:
    """The generation of the list that this run makes; None if the list is what it was.

    Only a run itself looks: what it found, its jobs do. Raises InputError, FolderError.
    """
    if environ:
        return None
    check_folder(settings)
    return growth_is_due(settings)


def begin_run(settings: Settings, given: Mapping[str, Any]) -> Callable[[], None]:
    """Take the output folder until this process ends; what ends the live line before that.

    Raises DownloaderError.
    """
    check_folder(settings)
    check_previous(settings)
    if not settings.paths.source.exists():
        _look_for_input(settings)  # an input that is not there leaves no folder behind
    for notice in notices(given):
        tell(f"note: {notice}")
    paths = settings.paths
    lock = Lock.acquire(paths.run_lock, role="the workflow")
    atexit.register(lock.release)
    os.environ["DOWNLOADER_RUN"] = lock.nonce
    lock.keep_beating()
    stop_orphan(paths, tell=tell)
    remove_leftovers(paths)
    os.environ[CONFIG_VARIABLE] = str(write_effective_config(settings.raw, paths.configs))
    for number in (signal.SIGTERM, signal.SIGINT):
        _stop_writer_first(number, paths.writer_lock)
    end_live_line = watch(paths.checkpoint, sys.stderr, paths.writer_lock.exists)
    atexit.register(end_live_line)
    return end_live_line


def _look_for_input(settings: Settings) -> None:
    if is_remote(settings.path_to_input):
        remote_files(settings)
    else:
        find_files(settings.path_to_input)


def was_asked_to_end() -> bool:
    """Whether a signal has asked for the end of the run that this process began."""
    return _asked_to_end.is_set()


def _stop_writer_first(number: signal.Signals, writer_lock: Path) -> None:
    """On this signal, first ask the writer to stop; then what Snakemake does on it."""
    theirs = signal.getsignal(number)

    def on_signal(received: int, frame: FrameType | None) -> None:
        _asked_to_end.set()
        with suppress(LockError):  # a disk that takes no request: what follows must happen anyway
            request_stop(writer_lock)
        if callable(theirs):
            theirs(received, frame)

    signal.signal(number, on_signal)
