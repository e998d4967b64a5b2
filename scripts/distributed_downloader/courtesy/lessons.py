"""What a group's answers have taught: until when it is blocked, and its rate.

The rules are in `backoff` and `rates`; here each answer meets both. Times are on the caller's
monotonic clock, but for dates in headers.
"""

from collections.abc import Callable

from distributed_downloader.courtesy import backoff, rates
from distributed_downloader.courtesy.answers import Answered, change_sentence
from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.courtesy.headers import told_to_wait
from distributed_downloader.courtesy.memory import Memory


class Lessons:
    """A group's block and rate, answer by answer; `chance` in [0, 1) decides the jitter."""

    def __init__(
        self, budget: Budget, memory: Memory, now: float, wall: float, chance: Callable[[], float]
    ) -> None:
        self._group, self._limits, self._chance = budget.group, budget.backoff, chance
        self.state = memory.group_state(now, wall, budget.backoff)
        self.rates = rates.starting_rate(budget.rate, budget.min_rate, now, memory.learned)

    @property
    def seen(self) -> tuple[float, float]:
        """(blocked until, requests per second): what others act on."""
        return self.state.blocked_until, self.rates.rate

    def are_stricter_than(self, blocked_until: float, rate: float) -> bool:
        """A raised rate may be forgotten without harm: it is written down now and then."""
        return self.state.blocked_until > blocked_until or self.rates.rate < rate

    def change_since(self, blocked_until: float, rate: float, now: float) -> str | None:
        """What is another by now, as a sentence."""
        until = self.state.blocked_until
        block = (until - now, self.state.cause) if until != blocked_until else None
        return change_sentence(self._group, block, (rate, self.rates.rate))

    def limit(self, rate: float, now: float) -> None:
        """Never a higher rate than this from now on."""
        if rate < self.rates.limit:
            self.rates = rates.limited(self.rates, rate, now)

    def heard(self, answer: Answered, now: float, wall: float) -> bool:
        """Let it change block and rate; False if its row is not to blame."""
        told = told_to_wait(answer.status or 0, answer.headers, wall, self._limits.max_s)
        if answer.status in backoff.REFUSALS:
            refusal = backoff.Refusal(
                status=answer.status,
                sent=now - answer.latency_s,
                retry_after_s=told[0] if told is not None else None,
                is_above_proven=rates.is_above_proven(self.rates),
            )
            return self._refused(refusal, now)
        self._answered(answer, now)
        if told is not None:
            self._block(backoff.told(self.state, *told, now, self._limits, self._chance()))
        return True

    def _refused(self, refusal: backoff.Refusal, now: float) -> bool:
        before = self.state
        after = backoff.refused(before, refusal, now, self._limits, self._chance())
        if backoff.is_in_block(before, refusal.sent):
            self._block(after)
            return False
        self.rates = rates.refused(self.rates, refusal.sent, now)
        self._block(after)
        return not (refusal.status == 429 and backoff.is_rate_signal(before, refusal))

    def _answered(self, answer: Answered, now: float) -> None:
        self.state = backoff.accepted(self.state, now - answer.latency_s)
        if answer.status is not None and answer.status < 400 and answer.error_class is None:
            self.rates = rates.succeeded(self.rates, answer.latency_s, now)
        else:
            is_error = answer.status is None or answer.status >= 500
            self.rates = rates.answered(self.rates, is_error=is_error)

    def _block(self, state: backoff.GroupState) -> None:
        before, self.state = self.state, state
        if state.blocked_until > before.blocked_until:
            self.rates = rates.resumed(self.rates, state.blocked_until)
