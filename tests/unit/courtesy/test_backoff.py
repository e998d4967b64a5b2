"""The block of a group, rule by rule."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.courtesy.backoff import (
    GroupState,
    Refusal,
    accepted,
    forgiven,
    is_right_after_block,
    refused,
    told,
)
from distributed_downloader.courtesy.budgets import Backoff

LIMITS = Backoff(first_s=10, factor=2, max_s=1000, forgive_after_s=1800, jitter=0.1)


def refuse(
    state: GroupState,
    now: float,
    *,
    told_s: float | None = None,
    above: bool = False,
    sent: float | None = None,
) -> GroupState:
    refusal = Refusal(429, now if sent is None else sent, told_s, above)
    return refused(state, refusal, now, LIMITS, chance=0.0)


WORKING = GroupState(accepted=50)
AFTER_10 = GroupState(blocked_until=0.0, block_s=10.0, accepted=5)
JUST_AFTER_10 = replace(AFTER_10, accepted=0)


@pytest.mark.parametrize(
    ("state", "refusal", "lasts_s", "next_base_s"),
    [
        # rule 1: what the server says
        (WORKING, {"told_s": 30.0}, 30.0, 10.0),
        (WORKING, {"told_s": 2.0}, 2.0, 2.0),
        (JUST_AFTER_10, {"told_s": 2.0}, 20.0, 20.0),
        (JUST_AFTER_10, {"told_s": 90.0}, 90.0, 20.0),
        # rule 2: a signal about the rate does not double
        (WORKING, {"above": True}, 10.0, 10.0),
        (AFTER_10, {"above": True}, 10.0, 10.0),
        (replace(AFTER_10, block_s=80.0), {"above": True}, 10.0, 80.0),
        (GroupState(), {"above": True}, 10.0, 10.0),
        # rule 3: at a proven rate, or right after a block, it does
        (WORKING, {}, 10.0, 10.0),
        (AFTER_10, {}, 20.0, 20.0),
        (JUST_AFTER_10, {"above": True}, 20.0, 20.0),
        (replace(JUST_AFTER_10, block_s=600.0), {}, 1000.0, 1000.0),
    ],
)
def test_how_long(
    state: GroupState, refusal: dict[str, float], lasts_s: float, next_base_s: float
) -> None:
    after = refuse(state, 100.0, **refusal)  # type: ignore[arg-type]
    assert after.blocked_until - 100.0 == lasts_s
    assert after.block_s == next_base_s
    assert after.accepted == 0
    assert after.cause.startswith("429 ")


def test_blocks_double_up_to_the_cap() -> None:
    state, now, lengths = WORKING, 0.0, []
    for _ in range(9):
        state = refuse(state, now)
        lengths.append(state.blocked_until - now)
        now = state.blocked_until
    assert lengths == [10, 20, 40, 80, 160, 320, 640, 1000, 1000]


def test_one_incident_counts_once_however_many_answers() -> None:
    first = refuse(WORKING, 100.0)
    state = first
    for late in range(1, 9):
        state = refuse(state, 100.0 + late, sent=99.0)
    assert state == first
    assert refuse(state, 111.0, sent=109.9) == first  # sent in the block, heard after it


def test_a_longer_retry_after_among_them_prolongs_the_block() -> None:
    state = refuse(refuse(WORKING, 100.0), 101.0, told_s=60.0, sent=99.0)
    assert state.blocked_until == 161.0
    assert state.block_s == 10.0
    assert refuse(state, 102.0, told_s=5.0, sent=99.0) == state


def test_an_answer_to_an_older_request_does_not_end_the_incident() -> None:
    blocked = refuse(WORKING, 100.0)
    assert is_right_after_block(accepted(blocked, sent=99.0))
    assert not is_right_after_block(accepted(blocked, sent=110.5))


def test_forgiven_after_quiet_minutes() -> None:
    state = accepted(refuse(refuse(WORKING, 0.0), 10.0), sent=40.0)
    assert state.block_s == 20.0
    assert forgiven(state, state.blocked_until + 1799, LIMITS).block_s == 20.0
    assert forgiven(state, state.blocked_until + 1800, LIMITS).block_s == 0.0
    late = refuse(state, state.blocked_until + 1800)
    assert late.blocked_until - (state.blocked_until + 1800) == 10.0


def test_a_used_up_quota_stops_the_group_and_doubles_nothing() -> None:
    state = told(WORKING, 30.0, "quota used up", 100.0, LIMITS, chance=0.0)
    assert (state.blocked_until, state.block_s, state.accepted) == (130.0, 0.0, 50)
    assert told(state, 5.0, "quota used up", 101.0, LIMITS, chance=0.0) == state


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 5000),
        st.sampled_from(["accepted", "refused", "signal", "told", "late"]),
        st.floats(0, 0.999),
    ),
    max_size=40,
)


@given(EVENTS)
def test_no_history_shortens_a_block_or_passes_the_cap(
    events: list[tuple[float, str, float]],
) -> None:
    state, now = GroupState(), 0.0
    for wait_s, event, chance in events:
        now += wait_s
        before = state
        sent = now - 4000 if event == "late" else now
        if event == "accepted":
            state = accepted(state, sent)
        else:
            told_s = 5000.0 if event == "told" else None
            state = refused(
                state, Refusal(503, sent, told_s, event == "signal"), now, LIMITS, chance
            )
        assert state.blocked_until >= before.blocked_until
        assert state.blocked_until <= max(before.blocked_until, now + LIMITS.max_s)
        assert state.block_s <= LIMITS.max_s
        if event == "refused" and sent >= before.blocked_until:
            assert state.blocked_until >= now + LIMITS.first_s


def test_jitter_only_lengthens() -> None:
    refusal = Refusal(429, 0.0)
    state = refused(WORKING, refusal, 0.0, LIMITS, chance=0.5)
    assert state.blocked_until == pytest.approx(10.5)
    assert state.block_s == 10.0
