import pytest

from distributed_downloader.running.slurm_queue import (
    LONGEST_PAUSE_S,
    LOOKS_IN_DOUBT,
    Pace,
    Queue,
    why_failed,
)

NOBODY = {}


def looks(queue, answer, accounting=NOBODY, number=LOOKS_IN_DOUBT):
    """What comes of so many looks that all bring the same."""
    return [queue.read(answer, accounting) for _ in range(number)]


@pytest.fixture
def queue():
    queue = Queue()
    queue.expect(["7"])
    return queue


@pytest.mark.parametrize("said", ["CANCELLED by 1000", "CANCELLED+", "CANCELLED"])
def test_who_cancelled_a_job_does_not_hide_that_it_was_cancelled(queue, said):
    assert queue.read({"7": said}, NOBODY) == {"7": "CANCELLED"}


def test_of_a_job_that_the_queue_has_forgotten_the_accounting_knows_the_end(queue):
    assert queue.read({"7": "RUNNING"}, NOBODY) == {"7": "RUNNING"}
    assert queue.forgotten({}) == {"7"}
    assert queue.read({}, {"7": "COMPLETED"}) == {"7": "COMPLETED"}
    assert queue.forgotten({}) == set()


def test_a_job_that_nobody_knows_is_given_up_after_some_looks(queue):
    assert looks(queue, {}) == [{}] * (LOOKS_IN_DOUBT - 1) + [{"7": "FAILED"}]
    assert queue.forgotten({}) == set()


@pytest.mark.parametrize("late", ["RUNNING", "PENDING", ""])
def test_an_accounting_that_lags_behind_does_not_keep_a_job_alive(queue, late):
    assert looks(queue, {}, {"7": late})[-1] == {"7": "FAILED"}


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED"])
def test_a_job_that_lost_its_nodes_is_waited_for_unless_it_stays_lost(queue, state):
    *earlier, last = looks(queue, {"7": state})
    assert earlier == [{}] * (LOOKS_IN_DOUBT - 1)
    assert last == {"7": "FAILED"}


def test_doubts_end_when_a_job_comes_back(queue):
    for _ in range(3):
        assert looks(queue, {"7": "NODE_FAIL"}, number=LOOKS_IN_DOUBT - 1)[-1] == {}
        assert queue.read({"7": "PENDING"}, NOBODY) == {"7": "PENDING"}


def test_a_job_whose_end_was_told_is_not_waited_for(queue):
    queue.read({"7": "COMPLETED"}, NOBODY)
    assert looks(queue, {}) == [{}] * LOOKS_IN_DOUBT


class Time:
    now = 0.0


def paces(ages_s, least_s):
    """The pauses at these ages of a job."""
    time = Time()
    pace = Pace(lambda: time.now)
    pauses = []
    for time.now in [0.0, *ages_s]:
        pauses.append(pace.pause_s(["7"], least_s))
    return pauses[1:]


def test_looks_grow_rarer_with_a_jobs_age_up_to_a_bound():
    assert paces([1, 100, 1000, 10**5], least_s=5) == [5, 10, 100, LONGEST_PAUSE_S]


def test_a_site_that_wants_fewer_looks_gets_fewer():
    assert paces([1, 10**5], least_s=600) == [600, 600]


def test_a_wave_of_four_hours_costs_about_a_hundred_looks():
    time, number = Time(), 0
    pace = Pace(lambda: time.now)
    while time.now < 4 * 3600:
        time.now += pace.pause_s(["7"], 5)
        number += 1
    assert number < 130


def test_a_new_job_is_looked_at_soon_whatever_runs_beside_it():
    time = Time()
    pace = Pace(lambda: time.now)
    pace.pause_s(["7"], 5)
    time.now = 10**4
    assert pace.pause_s(["7", "8"], 5) == 5
    assert pace.pause_s([], 5) == 5


@pytest.mark.parametrize(
    ("message", "log", "sentence"),
    [
        (
            "SLURM sbatch failed. The error message was 'sbatch: error: Invalid account'.",
            "",
            "Slurm did not take the job: Invalid account.",
        ),
        (
            "SLURM-job '7' failed, SLURM status is: 'FAILED'. Detailed reason unavailable.",
            "Building DAG\nerror: The disk is full.\nerror: so this failed, too\n",
            "Slurm job 7 ended as FAILED: The disk is full.",
        ),
        (
            "SLURM-job '7' failed, SLURM status is: 'TIMEOUT'. Detailed reason unavailable.",
            "srun: error: it was killed",
            "Slurm job 7 ended as TIMEOUT.",
        ),
        (
            "SLURM-job '7' failed, SLURM status is: 'FAILED'. Detailed reason unavailable.",
            "Timeout (0:05:00)!\nThread 0x1 (most recent call first):\n",
            "Slurm job 7 ended as FAILED: 0:05:00 after the first rank started, not all of them "
            "were there.",
        ),
        (
            "Job submission failed with exception: no",
            "",
            "Job submission failed with exception: no.",
        ),
    ],
)
def test_why_a_job_failed_is_one_sentence(message, log, sentence):
    assert why_failed(message, log) == sentence
