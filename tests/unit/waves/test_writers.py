import pytest

from distributed_downloader.errors import LockError
from distributed_downloader.mpi import Solo
from distributed_downloader.paths import OutputPaths
from distributed_downloader.storage.holder import RUN_VARIABLE
from distributed_downloader.storage.lock import Lock
from distributed_downloader.storage.lock_watch import Clock
from distributed_downloader.waves.writers import check_run, writing_together


@pytest.fixture
def paths(tmp_path):
    return OutputPaths.of(tmp_path / "out")


@pytest.fixture
def run(paths):
    lock = Lock.acquire(paths.run_lock, role="the workflow")
    yield lock
    lock.release()


def test_job_of_the_run_that_has_the_folder_writes(paths, run, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, run.nonce)
    with writing_together(paths, Solo(), "wave 0") as lock:
        lock.check()


def test_job_that_a_person_started_writes(paths, monkeypatch):
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    with writing_together(paths, Solo(), "wave 0") as lock:
        lock.check()


def test_job_of_an_earlier_run_does_nothing_and_leaves_no_lock(paths, run, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, "an-earlier-run")
    with (
        pytest.raises(LockError, match=r"by a run that has ended \(the workflow .*has it now"),
        writing_together(paths, Solo(), "wave 0"),
    ):
        raise AssertionError("it writes")
    assert not paths.writer_lock.exists()


def test_job_whose_run_ended_while_it_stood_in_a_queue_does_nothing(paths, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, "an-earlier-run")
    lock = Lock.acquire(paths.writer_lock, role="wave 0")
    time = [0.0]
    lock.clock = Clock(lambda: time[0], lambda seconds: time.__setitem__(0, time[0] + seconds))
    with pytest.raises(LockError, match="nobody has it now"):
        check_run(paths, lock)


def test_run_lock_that_comes_back_was_never_lost(paths, run, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, run.nonce)
    lock = Lock.acquire(paths.writer_lock, role="wave 0")
    away = paths.run_lock.with_name("away")
    paths.run_lock.rename(away)
    time = [0.0]

    def sleep(seconds):
        time[0] += seconds
        if time[0] >= 1:
            away.rename(paths.run_lock)

    lock.clock = Clock(lambda: time[0], sleep)
    check_run(paths, lock)
    assert time[0] >= 1
