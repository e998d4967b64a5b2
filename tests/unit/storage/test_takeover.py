"""A process that sleeps in the middle of a commit while its lock is taken over commits nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.lock import Lock
from distributed_downloader.storage.lock_watch import Clock
from distributed_downloader.storage.parts import list_parts
from tests.unit.storage_folder import Folder, allowed

ROOT = Path(__file__).parents[3]

# Stops itself at the point that is asked for, holding the writer lock, with work of its own begun.
SLEEPER = """
import os, signal, sys
from pathlib import Path
from distributed_downloader import durable
from distributed_downloader.errors import LockError
from distributed_downloader.storage import consolidation, parts, removal, shards
from distributed_downloader.storage.lock import Lock
from tests.unit.storage_folder import Folder
from tests.unit.storage.test_takeover import removal_of

def sleep_at(name):
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGSTOP)

for module in (consolidation, parts, removal, shards):
    module.crash_point = sleep_at
folder = Folder(Path(sys.argv[1]))
lock = Lock.acquire(folder.paths.writer_lock, role="wave 0")
stop = lock.keep_beating(0.02)
try:
    if sys.argv[2].startswith("part"):
        writer = folder.writer(wave=7)
        folder.fill(writer, {5: "ok"})
        writer.commit(folder.images, lock.check)
    elif sys.argv[2].startswith("remove"):
        removal.remove_images(folder.batch, folder.paths, removal_of(1), allowed=lock.check)
    else:
        settle = consolidation.consolidate
        settle(folder.batch, folder.paths, 9, retries_waves=1, allowed=lock.check)
except LockError as error:
    print(error)
    sys.exit(3)
"""


def removal_of(number):
    marks = {"uuid": [f"row-{number}"], "tool": "t", "reason": "r", "refetch": [False]}
    return pl.DataFrame(marks)


def sixty_seconds_later() -> Clock:
    """A clock on which a silent holder is soon dead."""
    turned = [0.0]

    def sleep(seconds):
        turned[0] += seconds

    return Clock(now=lambda: turned[0], sleep=sleep)


def seen(folder):
    """What readers see: the parts, and the tables' bytes."""
    tables = {file.name: file.read_bytes() for file in folder.images.glob("*.parquet")}
    return [part.name for part in list_parts(folder.images)], tables


@pytest.mark.parametrize(
    "point",
    [
        "part:before_write",
        "part:after_images",
        "consolidate:before_shard",
        "consolidate:before_successes",
        "consolidate:after_successes",
        "remove:after_removed",
    ],
)
def test_who_wakes_after_its_lock_was_taken_over_commits_nothing(tmp_path, point):
    folder = Folder(tmp_path)
    folder.commit({1: "ok", 2: "ok"})
    if point.startswith("remove"):
        consolidate(folder.batch, folder.paths, 9, retries_waves=1, allowed=allowed)
    words = [sys.executable, "-c", SLEEPER, str(tmp_path), point]
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as sleeper:
        try:
            os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert sleeper.poll() is None, sleeper.communicate()
            clock = sixty_seconds_later()
            heir = Lock.acquire(folder.paths.writer_lock, role="wave 1", clock=clock)
            folder.commit({3: "ok"}, wave=1)
            consolidate(folder.batch, folder.paths, 9, retries_waves=1, allowed=heir.check)
            before = seen(folder)
            sleeper.send_signal(signal.SIGCONT)
            said = sleeper.communicate()[0]
        finally:
            sleeper.kill()
    assert sleeper.returncode == 3, said
    assert "taken over by wave 1" in said
    assert seen(folder) == before
    ok = BatchFiles.of(folder.images).images().collect()["uuid"].to_list()
    removed = 1 if point.startswith("remove") else 0  # that was committed before it fell asleep
    assert sorted(ok) == ["row-1", "row-2", "row-3"][removed:]
    assert sorted(folder.stored()) == sorted(ok)
