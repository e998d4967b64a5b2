"""When a row is tried again in its wave, and whether the wave counts."""

from dataclasses import replace

import pytest

from distributed_downloader.records import ErrorClass, Failed, Try
from distributed_downloader.waves import tries
from distributed_downloader.waves.tries import Effort, next_try_s, weighed
from tests.unit.waves.rank_at_work import BROKEN, FREE, rows

GONE = Failed(ErrorClass.NOT_FOUND, 404, "HTTP 404", retryable=False)
OVER = replace(BROKEN, is_over_for_now=True)


@pytest.mark.parametrize(
    ("number", "failed", "chance", "delay_s"),
    [
        (1, BROKEN, 0.5, 1.0),
        (2, BROKEN, 0.5, 2.0),
        (2, BROKEN, 0.0, 1.0),
        (9, BROKEN, 0.5, 60.0),
        (10, BROKEN, 0.5, None),  # the last of ten tries
        (1, GONE, 0.5, None),
        (1, OVER, 0.5, None),
        (9, FREE, 0.5, 0.0),  # the group's pace makes it wait
        (10, FREE, 0.5, None),  # a request is a request
        (1, replace(FREE, error_code=-2), 0.5, 1.0),  # out of sockets: nobody's pace
    ],
)
def test_when_a_row_is_tried_again(monkeypatch, number, failed, chance, delay_s):
    monkeypatch.setattr(tries, "RETRY_FIRST_S", 1.0)
    attempt = Try(next(rows("http://a.org/1")), number=number, requests=number - 1)
    assert next_try_s(attempt, failed, Effort(10, 0.0), chance) == delay_s


@pytest.mark.parametrize(
    ("number", "failed", "counts"),
    [
        (3, BROKEN, True),
        (2, BROKEN, False),  # one of the three was refused in its group's block
        (3, FREE, False),
        (1, OVER, True),  # its server is down: the others are not tried
        (1, replace(OVER, costs_a_try=False), False),
    ],
)
def test_a_wave_counts_if_each_of_its_tries_did(number, failed, counts):
    attempt = Try(next(rows("http://a.org/1")), number=number, requests=2)
    assert weighed(attempt, failed, Effort(3, 0.0)).costs_a_try == counts


def test_a_sample_that_failed_for_now_is_not_tried_again():
    attempt = Try(next(rows("http://a.org/1")))
    assert next_try_s(attempt, BROKEN, Effort(3, 0.0, keeps_retryable=False), 0.5) is None
