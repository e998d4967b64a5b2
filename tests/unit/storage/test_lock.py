import errno
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from distributed_downloader.errors import LockError
from distributed_downloader.paths import OutputPaths
from distributed_downloader.storage.holder import Holder, Probe, own_holder
from distributed_downloader.storage.lock import Lock, request_stop, stop_file, stop_orphan
from distributed_downloader.storage.lock_files import LockFiles
from distributed_downloader.storage.lock_watch import Clock

SCRIPTS = Path(__file__).parents[3] / "scripts"
NOBODY = Probe(process_started=lambda pid: None, slurm_job_is_over=lambda job: None)

HOLD = """
import sys
from pathlib import Path
from distributed_downloader.errors import LockError
from distributed_downloader.storage.lock import Lock
path = Path(sys.argv[1])
input()
try:
    lock = Lock.acquire(path, role="a run")
except LockError as error:
    print("lost", error, flush=True)
    sys.exit(0)
stop = lock.keep_beating(0.02)
print("won", lock.nonce, flush=True)
for order in sys.stdin:
    if order == "die\\n":
        break
    try:
        lock.check()
        print("ours", flush=True)
    except LockError as error:
        print("lost", error, flush=True)
else:
    stop()
    lock.release()
"""


class Turning:
    """A clock that moves when somebody sleeps on it, and may do something then."""

    def __init__(self, *events):
        self.now = 0.0
        self.events = list(events)  # (time, what to do)

    def sleep(self, seconds):
        self.now += seconds
        while self.events and self.now >= self.events[0][0]:
            self.events.pop(0)[1]()

    @property
    def clock(self):
        return Clock(now=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "run.lock"


@pytest.fixture
def paths(tmp_path):
    return OutputPaths.of(tmp_path / "out")


def put(path, **changes):
    """A lock file that somebody left."""
    holder = replace(own_holder("theirs", "a run", environ={}), **changes)
    assert LockFiles().create(path, holder.to_bytes())
    return holder


def put_elsewhere(path, **changes):
    return put(path, **{"host": "node7", "boot_id": "b7"} | changes)


def beating(path, every_s=1.0, times=1000):
    """Events of a live holder's heart; the times it writes are no clock's, and never the same."""
    return [(n * every_s, lambda n=n: os.utime(path, ns=(n, n))) for n in range(1, times)]


@contextmanager
def process(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def ask(child, order=""):
    child.stdin.write(f"{order}\n")
    return child.stdout.readline().split()[0]


def test_free_folder_is_taken_and_left_as_it_was(path):
    lock = Lock.acquire(path, role="a run")
    lock.check()
    assert Holder.from_bytes(path.read_bytes()).nonce == lock.nonce
    assert [file.name for file in path.parent.iterdir()] == ["run.lock"]
    lock.release()
    lock.release()
    assert list(path.parent.iterdir()) == []


def test_second_run_is_told_who_works_there_and_the_way_out(path):
    holder = put_elsewhere(path, pid=42, role="the workflow", since="2030-01-01 10:00:00 UTC")
    with pytest.raises(LockError) as caught:
        Lock.acquire(path, role="a run", clock=Turning(*beating(path)).clock, probe=NOBODY)
    assert str(caught.value) == (
        f"{path.parent} is in use by the workflow (host node7, process 42, since 2030-01-01 "
        "10:00:00 UTC): wait until it ends or stop it there, or choose another path_to_output."
    )
    assert Holder.from_bytes(path.read_bytes()) == holder
    assert [file.name for file in path.parent.iterdir()] == ["run.lock"]


def test_live_one_is_told_from_a_dead_one_within_seconds(path):
    put_elsewhere(path)
    turning = Turning(*beating(path, every_s=3.0))
    with pytest.raises(LockError):
        Lock.acquire(path, role="a run", clock=turning.clock, probe=NOBODY)
    assert turning.now <= 3.5


def test_lock_of_a_process_that_is_gone_is_taken_over_at_once(path):
    put(path)
    turning = Turning()
    lock = Lock.acquire(path, role="a run", clock=turning.clock, probe=NOBODY)
    lock.check()
    assert turning.now < 1.0
    assert [file.name for file in path.parent.iterdir()] == ["run.lock"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"garbage"])
def test_silent_holder_elsewhere_and_broken_file_are_taken_over_after_a_minute(path, content):
    put_elsewhere(path)
    if content is not None:
        path.write_bytes(content)
    turning = Turning()
    Lock.acquire(path, role="a run", clock=turning.clock, probe=NOBODY).check()
    assert 60 <= turning.now <= 62


def test_clocks_of_machines_may_disagree(path):
    put_elsewhere(path)
    os.utime(path, (4e9, 4e9))  # touched in a far future, and silent
    turning = Turning()
    Lock.acquire(path, role="a run", clock=turning.clock, probe=NOBODY).check()
    assert turning.now <= 62


def test_waiting_for_a_live_one_ends_when_it_does(path):
    theirs = Lock.acquire(path, role="another run")
    turning = Turning(*beating(path, times=20), (20.0, theirs.release))
    Lock.acquire(path, role="a run", wait_s=60, clock=turning.clock).check()
    assert 20 <= turning.now < 21


def test_waiting_for_a_live_one_has_an_end(path):
    put_elsewhere(path)
    turning = Turning(*beating(path))
    with pytest.raises(LockError, match="is in use by a run"):
        Lock.acquire(path, role="a run", wait_s=30, clock=turning.clock, probe=NOBODY)
    assert 30 <= turning.now < 32


def test_who_was_taken_over_is_told_by_whom(path):
    sleeper = Lock.acquire(path, role="a run", clock=Turning().clock)
    heir = Lock.acquire(path, role="wave 2", clock=Turning().clock, probe=NOBODY)
    with pytest.raises(LockError, match=r"run\.lock was taken over by wave 2 .* while this"):
        sleeper.check()
    sleeper.beat()
    sleeper.release()
    heir.check()


def test_who_was_removed_waits_a_little_and_gives_up(path):
    turning = Turning()
    lock = Lock.acquire(path, role="a run", clock=turning.clock)
    path.unlink()
    with pytest.raises(LockError, match=r"run\.lock was removed while"):
        lock.check()
    assert 2 < turning.now < 5


def test_lock_that_comes_back_is_waited_for(path):
    turning = Turning()
    lock = Lock.acquire(path, role="a run", clock=turning.clock)
    away = path.rename(path.with_name("run.lock.away-x"))
    turning.events.append((1.0, lambda: away.rename(path)))
    lock.check()
    assert turning.now >= 1.0


def test_heart_beats_until_the_block_ends(path):
    others = set(threading.enumerate())
    lock = Lock.acquire(path, role="a run")
    beaten = threading.Event()

    class Files(LockFiles):
        def beat(self, path, content):
            os.utime(path, ns=(0, 0))
            super().beat(path, content)
            if threading.current_thread() is not threading.main_thread():
                beaten.set()

    lock.files = Files()
    with lock.heartbeat(every_s=0.001):
        assert path.stat().st_mtime_ns > 0
        assert beaten.wait(20)
    assert set(threading.enumerate()) <= others
    lock.release()


def test_heart_of_another_is_left_alone(path):
    lock = Lock.acquire(path, role="a run")
    path.unlink()
    put(path)
    os.utime(path, ns=(7, 7))
    lock.beat()
    assert path.stat().st_mtime_ns == 7


def test_file_system_without_hard_links_will_do(path, monkeypatch):
    def no_links(*args, **kwargs):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    lock = Lock.acquire(path, role="a run")
    lock.check()
    with pytest.raises(LockError, match="is in use"):
        Lock.acquire(path, role="a run", clock=Turning(*beating(path)).clock)
    heir = Lock.acquire(path, role="a run", clock=Turning().clock, probe=NOBODY)
    heir.check()
    heir.release()
    assert list(path.parent.iterdir()) == []


def test_a_lock_that_is_lost_is_waited_for_once(path):
    """Many commits find out together: their rank ends in seconds, however many there are."""
    turning = Turning()
    lock = Lock.acquire(path, role="a run", clock=turning.clock, probe=NOBODY)
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(LockError, match="was removed"):
        lock.check()
    told_at = turning.now
    path.write_bytes(content)  # too late
    for _ in range(100):
        with pytest.raises(LockError, match="was removed"):
            lock.check()
    assert told_at > 0
    assert turning.now == told_at


def test_link_whose_answer_was_lost_counts(path, monkeypatch):
    link = os.link

    def nfs_link(source, target):
        link(source, target)
        raise FileExistsError

    monkeypatch.setattr(os, "link", nfs_link)
    Lock.acquire(path, role="a run").check()


def test_folder_that_cannot_be_written_is_one_sentence(path):
    path.parent.write_text("a file where the folder should be")
    with pytest.raises(LockError, match=r"Cannot (read|write) the lock .*run\.lock: Not a dir"):
        Lock.acquire(path, role="a run")


def test_one_of_many_processes_wins_a_dead_lock(path):
    put(path, pid=2**22 + 1)
    with process(path) as a, process(path) as b, process(path) as c, process(path) as d:
        children = [a, b, c, d]
        for child in children:
            child.stdin.write("\n")  # all at once
        words = [child.stdout.readline().split()[0] for child in children]
        assert sorted(words) == ["lost", "lost", "lost", "won"]
        winner = children[words.index("won")]
        assert ask(winner, "check") == "ours"
        winner.communicate()
    assert list(path.parent.iterdir()) == []


def test_killed_process_leaves_a_lock_that_the_next_takes_over(path):
    with process(path) as first, process(path) as second:
        assert ask(first) == "won"
        first.kill()
        first.wait()
        assert ask(second) == "won"
        assert ask(second, "check") == "ours"


def test_paused_process_that_was_taken_over_finds_out_when_it_wakes(path):
    with process(path) as sleeper:
        assert ask(sleeper) == "won"
        sleeper.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED)
        turning = Turning()
        heir = Lock.acquire(path, role="another run", clock=turning.clock)
        assert 60 <= turning.now <= 62, "it is there, but silent"
        sleeper.send_signal(signal.SIGCONT)
        assert ask(sleeper, "check") == "lost"
        sleeper.communicate()  # it releases nothing of ours
        heir.check()


def test_stop_is_asked_of_one_holder_only(path):
    lock = Lock.acquire(path, role="wave 1")
    assert not lock.stop_requested()
    request_stop(path, "another")
    assert not lock.stop_requested()
    request_stop(path)
    request_stop(path)
    assert lock.stop_requested()
    lock.release()
    heir = Lock.acquire(path, role="wave 2")
    assert not heir.stop_requested()
    assert [file.name for file in path.parent.iterdir()] == ["run.lock"]
    request_stop(path)
    heir.release()
    assert list(path.parent.iterdir()) == []


def test_nobody_there_is_nobody_to_stop(path):
    request_stop(path)
    assert not path.parent.exists()


class Told(list):
    def __call__(self, sentence):
        self.append(sentence)


def test_nothing_is_awaited_where_nobody_writes(paths):
    turning, told = Turning(), Told()
    stop_orphan(paths, tell=told, clock=turning.clock)
    assert (turning.now, told) == (0.0, [])


def test_dead_writer_is_removed_without_a_word(paths):
    put(paths.writer_lock, run="earlier")
    request_stop(paths.writer_lock)
    told = Told()
    stop_orphan(paths, tell=told, clock=Turning().clock, probe=NOBODY)
    assert told == []
    assert list(paths.root.iterdir()) == []


def test_live_writer_of_a_dead_run_is_asked_to_stop_and_waited_for(paths):
    run = Lock.acquire(paths.run_lock, role="the workflow")
    writer = put_elsewhere(paths.writer_lock, role="wave 3", run="earlier", nonce="w")
    stop = stop_file(paths.writer_lock, "w")
    asked_at = []

    def stops_when_asked():
        asked_at.append(stop.exists())
        paths.writer_lock.unlink()
        stop.unlink()

    beats = beating(paths.writer_lock, times=8)
    turning, told = Turning(*beats, (8.0, stops_when_asked)), Told()
    stop_orphan(paths, tell=told, clock=turning.clock, probe=NOBODY)
    assert asked_at == [True]
    assert 8 <= turning.now < 9
    assert told == [f"An earlier run left {writer} at work: it now stores what it has and ends."]
    run.check()


def test_writer_that_dies_while_it_is_awaited_is_removed(paths):
    put(paths.writer_lock, run="earlier")
    alive = [True]
    started = own_holder("", "").started
    probe = Probe(process_started=lambda pid: started if alive else None)
    turning = Turning((5.0, alive.clear))
    stop_orphan(paths, tell=Told(), clock=turning.clock, probe=probe)
    assert 5 <= turning.now < 6
    assert list(paths.root.iterdir()) == []


def test_writer_that_does_not_stop_is_one_sentence(paths):
    put_elsewhere(paths.writer_lock, run="earlier", role="wave 3")
    turning = Turning(*beating(paths.writer_lock))
    with pytest.raises(LockError, match=r"is in use by wave 3 \(host node7"):
        stop_orphan(paths, tell=Told(), patience_s=30, clock=turning.clock, probe=NOBODY)
    assert 30 <= turning.now < 31


def test_job_that_somebody_started_by_hand_is_not_stopped(paths):
    put_elsewhere(paths.writer_lock, run="", role="a tool")
    turning, told = Turning(*beating(paths.writer_lock)), Told()
    with pytest.raises(LockError, match="is in use by a tool"):
        stop_orphan(paths, tell=told, clock=turning.clock, probe=NOBODY)
    assert told == []
    assert [file.name for file in paths.root.iterdir()] == ["writer.lock"]


def test_writer_of_a_run_that_lives_is_left_alone(paths):
    run = Lock.acquire(paths.run_lock, role="the workflow")
    put(paths.writer_lock, run=run.nonce)
    told = Told()
    stop_orphan(paths, tell=told, clock=Turning().clock)
    assert told == []
    assert sorted(file.name for file in paths.root.iterdir()) == ["run.lock", "writer.lock"]


def test_writer_names_the_run_that_started_it(paths, monkeypatch):
    run = Lock.acquire(paths.run_lock, role="the workflow")
    monkeypatch.setenv("DOWNLOADER_RUN", run.nonce)
    writer = Lock.acquire(paths.writer_lock, role="wave 1")
    assert json.loads(paths.writer_lock.read_text())["run"] == run.nonce
    writer.release()
