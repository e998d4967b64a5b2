"""How long a group that refused us is left alone. The block belongs to the group, not to a row.

1. `Retry-After` stops the group for as long as it says, with any status of 300 or more (RFC 9110
   10.2.3; 403 is what some services refuse with); a quota that is used up, until its reset.
2. A 429 or 503 without it, at a rate above any that has proven good, is a signal about the rate:
   a pause of `first_s`, no doubling (rates.py cuts the rate).
3. Refused at or under a proven rate, or right after a block: the block is the last one times
   `factor`. Refused right after a block that the server asked for: the longer of the two.
4. What was sent before a block ended counts for nothing: one incident, however many answers.
   Only a longer Retry-After among them prolongs the block.
5. Every block gets up to `jitter` of itself on top, and lasts `max_s` at most.
6. After `forgive_after_s` without a block, the next one is the first again.

Pure functions; times are seconds on the caller's clock.
"""

import math
from dataclasses import dataclass, replace

from distributed_downloader.courtesy.budgets import Backoff

REFUSALS = frozenset({429, 503})
CUT_OFF = "no server answers, as if the network were cut"  # the cause of a rest that is no block


@dataclass(frozen=True, slots=True)
class GroupState:
    """What is known of a group's refusals."""

    blocked_until: float = -math.inf
    block_s: float = 0.0  # the last block by rule 2 or 3, without jitter; 0 = forgiven
    cause: str = ""
    accepted: int = 0  # answers since the last block ended, but for refusals


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 429 or 503."""

    status: int
    sent: float  # when it was asked for
    retry_after_s: float | None = None
    is_above_proven: bool = True  # asked at a rate that has not proven good


def is_in_block(state: GroupState, sent: float) -> bool:
    """Whether a request was sent before the block ended: it belongs to that incident (rule 4)."""
    return sent < state.blocked_until


def is_right_after_block(state: GroupState) -> bool:
    """Whether nothing has been accepted since a block that is not yet forgiven."""
    return state.block_s > 0 and state.accepted == 0


def is_rate_signal(state: GroupState, refusal: Refusal) -> bool:
    """Rule 2."""
    told = refusal.retry_after_s is not None
    return not told and refusal.is_above_proven and not is_right_after_block(state)


def accepted(state: GroupState, sent: float) -> GroupState:
    """An answer that was no refusal."""
    if is_in_block(state, sent):
        return state
    return replace(state, accepted=state.accepted + 1)


def refused(
    state: GroupState, refusal: Refusal, now: float, backoff: Backoff, chance: float
) -> GroupState:
    """A refusal; `chance` in [0, 1) decides the jitter."""
    if is_in_block(state, refusal.sent):
        return _prolonged(state, refusal, now, backoff)
    state = forgiven(state, now, backoff)
    block_s, lasts_s = _lengths(state, refusal, backoff)
    return replace(
        state,
        blocked_until=now + _with_jitter(lasts_s, backoff, chance),
        block_s=block_s,
        cause=_cause(state, refusal),
        accepted=0,
    )


def told(
    state: GroupState, wait_s: float, cause: str, now: float, backoff: Backoff, chance: float
) -> GroupState:
    """An answer that is no refusal says to wait (rule 1): nothing doubles."""
    until = now + _with_jitter(wait_s, backoff, chance)
    if until <= state.blocked_until:
        return state
    return replace(state, blocked_until=until, cause=cause)


def forgiven(state: GroupState, now: float, backoff: Backoff) -> GroupState:
    """Rule 6."""
    if state.block_s > 0 and now - state.blocked_until >= backoff.forgive_after_s:
        return replace(state, block_s=0.0)
    return state


def _lengths(state: GroupState, refusal: Refusal, backoff: Backoff) -> tuple[float, float]:
    """(the block to double next time, seconds that this one lasts)."""
    told_s = refusal.retry_after_s
    if is_rate_signal(state, refusal):
        return max(state.block_s, backoff.first_s), backoff.first_s
    if told_s is not None and not is_right_after_block(state):
        return max(state.block_s, min(told_s, backoff.first_s)), told_s
    doubled_s = state.block_s * backoff.factor if state.block_s > 0 else backoff.first_s
    doubled_s = min(doubled_s, backoff.max_s)
    return doubled_s, max(doubled_s, told_s or 0.0)


def _with_jitter(seconds: float, backoff: Backoff, chance: float) -> float:
    return min(seconds * (1 + backoff.jitter * chance), backoff.max_s)


def _prolonged(state: GroupState, refusal: Refusal, now: float, backoff: Backoff) -> GroupState:
    if refusal.retry_after_s is None:
        return state
    until = now + min(refusal.retry_after_s, backoff.max_s)
    if until <= state.blocked_until:
        return state
    return replace(state, blocked_until=until, cause=f"{refusal.status} with Retry-After")


def _cause(state: GroupState, refusal: Refusal) -> str:
    if refusal.retry_after_s is not None:
        return f"{refusal.status} with Retry-After"
    if is_right_after_block(state):
        return f"{refusal.status} right after a block"
    if refusal.is_above_proven:
        return f"{refusal.status} above any proven rate"
    return f"{refusal.status} at a proven rate"
