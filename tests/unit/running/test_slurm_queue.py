import pytest

from distributed_downloader.running.slurm_queue import Queue


@pytest.fixture
def queue():
    return Queue(lambda: 300)


@pytest.mark.parametrize("said", ["CANCELLED by 1000", "CANCELLED+", "CANCELLED"])
def test_who_cancelled_a_job_does_not_hide_that_it_was_cancelled(queue, said):
    assert queue.read({"7": said}, is_complete=False) == {"7": "CANCELLED"}


def test_a_job_that_the_queue_has_forgotten_is_over(queue):
    queue.read({"7": "RUNNING", "8": "PENDING"}, is_complete=True)
    assert queue.read({"8": "RUNNING"}, is_complete=True) == {"7": "FAILED", "8": "RUNNING"}


def test_the_accounting_may_miss_a_job_for_a_while(queue):
    queue.read({"7": "RUNNING"}, is_complete=True)
    assert queue.read({}, is_complete=False) == {}


def test_a_job_that_was_never_seen_is_not_yet_forgotten(queue):
    assert queue.read({}, is_complete=True) == {}


@pytest.mark.parametrize(("seconds", "trusted"), [(300, 300), (181, 181), (180, 0), (2, 0)])
def test_a_queue_that_forgets_between_two_looks_is_not_trusted(seconds, trusted):
    assert Queue(lambda: seconds).min_job_age() == trusted


def test_how_long_the_queue_remembers_stays_known_while_nobody_answers():
    answers = iter([None, 300, None])
    queue = Queue(lambda: next(answers))
    assert [queue.min_job_age() for _ in range(3)] == [0, 300, 300]
