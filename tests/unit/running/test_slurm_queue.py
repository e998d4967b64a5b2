import pytest

from distributed_downloader.running.slurm_queue import Queue, why_failed


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
            "Job submission failed with exception: no",
            "",
            "Job submission failed with exception: no.",
        ),
    ],
)
def test_why_a_job_failed_is_one_sentence(message, log, sentence):
    assert why_failed(message, log) == sentence
