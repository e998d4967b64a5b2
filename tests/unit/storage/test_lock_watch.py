import pytest

from distributed_downloader.storage.holder import own_holder
from distributed_downloader.storage.lock_files import Seen
from distributed_downloader.storage.lock_watch import POLL_S, Clock, Watch

LOCK = own_holder("n", "a run").to_bytes()


class Seconds:
    now = 0.0


@pytest.fixture
def watch():
    seconds = Seconds()
    watch = Watch(Clock(now=lambda: seconds.now))

    def look(content, beat, after=POLL_S):
        seconds.now += after
        watch.look(Seen(content, (1, beat)))
        return watch.quiet_s, watch.has_beaten

    return look


def test_quiet_time_adds_up_until_something_moves(watch):
    assert [watch(LOCK, 5) for _ in range(5)][-1] == (4 * POLL_S, False)
    assert watch(LOCK, 6) == (0.0, True)
    assert watch(LOCK, 6) == (POLL_S, True)


def test_time_that_runs_backwards_is_a_heartbeat_too(watch):
    watch(LOCK, 5)
    assert watch(LOCK, 4) == (0.0, True)


def test_another_lock_is_not_the_first_ones_heartbeat(watch):
    watch(LOCK, 5)
    watch(LOCK, 6)
    assert watch(own_holder("m", "a run").to_bytes(), 7) == (0.0, False)


def test_time_that_we_slept_ourselves_hardly_counts(watch):
    watch(LOCK, 5)
    assert watch(LOCK, 5, after=3600.0) == (2 * POLL_S, False)


def test_broken_file_that_changes_is_another(watch):
    watch(b"", 5)
    assert watch(b"", 6) == (0.0, False)
    assert watch(b"", 6) == (POLL_S, False)
