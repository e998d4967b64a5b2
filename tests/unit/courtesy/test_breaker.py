"""Dead servers, and those that shut us out."""

import pytest

from distributed_downloader.courtesy.breaker import ALIVE, ServerState, cause_of, failed
from distributed_downloader.courtesy.budgets import Backoff
from distributed_downloader.records import ErrorClass

LIMITS = Backoff(first_s=10, factor=2, max_s=30, breaker_failures=3)


@pytest.mark.parametrize(
    ("status", "error_class", "cause"),
    [
        (403, ErrorClass.FORBIDDEN, "403"),
        (None, ErrorClass.DNS, "dns"),
        (None, ErrorClass.CONNECT, "connect"),
        (None, ErrorClass.TIMEOUT, "timeout"),
        (None, ErrorClass.PRIVATE_ADDRESS, None),
        (None, ErrorClass.INTERNAL, None),
        (200, ErrorClass.TIMEOUT, None),
        (200, None, None),
        (404, ErrorClass.NOT_FOUND, None),
        (500, ErrorClass.SERVER_ERROR, None),
    ],
)
def test_what_counts(status: int | None, error_class: ErrorClass | None, cause: str | None) -> None:
    assert cause_of(status, error_class) == cause


def fail(state: ServerState, now: float, sent: float | None = None) -> ServerState:
    return failed(state, "dns", now if sent is None else sent, now, LIMITS)


def test_opens_after_so_many_in_a_row_and_longer_each_time() -> None:
    state = fail(fail(ALIVE, 1.0), 2.0)
    assert state.open_until < 2.0
    lengths, now = [], 3.0
    for _ in range(4):
        state = fail(state, now)
        lengths.append(state.open_until - now)
        now = state.open_until + 1.0
    assert lengths == [10, 20, 30, 30]


def test_what_was_under_way_when_it_opened_is_the_same_incident() -> None:
    opened = fail(fail(fail(ALIVE, 1.0), 1.0), 1.0)
    assert fail(opened, 5.0, sent=0.5) == opened
