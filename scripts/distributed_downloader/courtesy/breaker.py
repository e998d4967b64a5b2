"""Servers that are dead or have shut us out: their rows wait for a later wave, nobody hammers.

So many failures in a row (no name, no connection, no answer in time, or 403) open a server's
breaker for as long as a first block; any other answer closes it. When its time is over one more
failure opens it again, for longer. A server is one host of a group: the others go on.

The decisions are pure functions; times are seconds on the caller's clock.
"""

import math
from dataclasses import dataclass

from distributed_downloader.courtesy.answers import Answered
from distributed_downloader.courtesy.budgets import Backoff
from distributed_downloader.records import ErrorClass

DEAD = frozenset(
    {
        ErrorClass.DNS,
        ErrorClass.CONNECT,
        ErrorClass.TLS,
        ErrorClass.TLS_EXPIRED,
        ErrorClass.TLS_WRONG_NAME,
        ErrorClass.TLS_SELF_SIGNED,
        ErrorClass.RESET,
        ErrorClass.TIMEOUT,
        ErrorClass.TOO_SLOW,
    }
)


@dataclass(frozen=True, slots=True)
class ServerState:
    """What is known of one server's failures in a row."""

    failures: int = 0
    open_until: float = -math.inf
    open_s: float = 0.0  # how long it was opened the last time
    cause: str = ""


ALIVE = ServerState()


def cause_of(status: int | None, error_class: ErrorClass | None) -> str | None:
    """The word for a failure that counts here, None for any other answer."""
    if status == 403:
        return "403"
    return error_class.value if status is None and error_class in DEAD else None


def failed(
    state: ServerState, cause: str, sent: float, now: float, backoff: Backoff
) -> ServerState:
    """One more failure; those of requests sent before it opened are the same incident."""
    if sent < state.open_until:
        return state
    failures = state.failures + 1
    if failures < backoff.breaker_failures and not state.open_s:
        return ServerState(failures, cause=cause)
    longer_s = state.open_s * backoff.factor if state.open_s else backoff.first_s
    open_s = min(longer_s, backoff.max_s)
    return ServerState(failures, now + open_s, open_s, cause)


class Breakers:
    """Those of a group's servers, over time."""

    def __init__(self) -> None:
        self._states: dict[str, ServerState] = {}  # of servers that failed last

    def of(self, server: str) -> ServerState:
        """What its failures in a row have come to."""
        return self._states.get(server, ALIVE)

    def heard(self, answer: Answered, server: str, now: float, backoff: Backoff) -> ServerState:
        """The same, after one more answer."""
        cause = cause_of(answer.status, answer.error_class)
        if cause is None:
            self._states.pop(server, None)
            return ALIVE
        state = failed(self.of(server), cause, now - answer.latency_s, now, backoff)
        self._states[server] = state
        return state
