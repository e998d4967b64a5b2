"""What is learned about a server's own limit; the whole is simulated with real paces."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.courtesy import rates
from distributed_downloader.courtesy.budgets import Backoff, Budget
from distributed_downloader.courtesy.rates import (
    PROBE_FIRST_S,
    PROVE_S,
    RateState,
    Run,
    starting_rate,
)
from tests.benchmarks.simulate_rates import Figures, LeakyServer, Network, simulate


def ran(state: RateState, answers: int) -> RateState:
    """A run with so many successes, nothing decided yet."""
    return replace(state, run=Run(state.run.since, answers, answers))


def quiet(state: RateState, seconds: float, latency_s: float = 0.05) -> RateState:
    """Success at the full rate for so many seconds."""
    now = state.run.since
    end = now + seconds
    while now < end:
        now += 1 / state.rate
        state = rates.succeeded(state, latency_s, now)
    return state


LEARNED = replace(starting_rate(50.0, 0.1, 0.0), rate=8.0, proven=8.0, refused=12.0, probe_at=300.0)


def test_a_group_starts_at_its_limit_and_stays_there() -> None:
    state = quiet(starting_rate(3.0, 0.1, 0.0), 600.0)
    assert (state.rate, state.proven, state.refused) == (3.0, 3.0, None)


@pytest.mark.parametrize(
    ("answers", "lasted_s", "low", "high"),
    [
        (4, 0.1, 25.0, 25.0),  # at once: half
        (1, 0.05, 25.0, 25.0),
        (500, 10.0, 47.5, 50.0),  # after a long good run: just below what was accepted
        (300, 10.0, 27.0, 30.0),
    ],
)
def test_a_refusal_cuts_to_just_below_what_was_accepted(
    answers: int, lasted_s: float, low: float, high: float
) -> None:
    state = rates.refused(ran(starting_rate(50.0, 0.1, 0.0), answers), lasted_s, lasted_s)
    assert low * 0.97 <= state.rate <= high
    assert rates.is_above_proven(state)


def test_two_runs_tell_burst_and_rate_apart() -> None:
    """A server of 10/s with a bucket of 5: 6 requests in 0.125 s, later 31 in 2.5 s."""
    state = rates.refused(ran(starting_rate(50.0, 0.1, 0.0), 6), 0.125, 0.125)
    state = rates.resumed(replace(state, rate=12.0), 10.0)
    state = rates.refused(ran(state, 31), 12.5, 12.6)
    assert 9.0 <= state.rate <= 10.0
    assert state.refused is not None and 10.0 <= state.refused <= 11.5


def test_a_refusal_before_anything_was_accepted_says_nothing_about_the_rate() -> None:
    assert rates.refused(LEARNED, 1.0, 1.0).rate == LEARNED.rate


def test_quiet_success_creeps_up_and_stays_below_what_was_refused() -> None:
    state, seen = LEARNED, [LEARNED.rate]
    while state.run.since < PROBE_FIRST_S - 2 * PROVE_S:
        state = quiet(state, PROVE_S)
        seen.append(state.rate)
    assert seen == sorted(seen)
    assert 11.0 < seen[-1] <= 12.0 * rates.MARGIN


def test_probes_are_rare_and_rarer_after_each_failure() -> None:
    state = replace(LEARNED, rate=11.6, proven=11.6)
    state = quiet(state, PROBE_FIRST_S - PROVE_S)
    assert state.rate < 12.0
    while state.rate < 12.0:
        state = quiet(state, PROVE_S)
    now = state.run.since + 1.0
    assert now >= PROBE_FIRST_S
    failed = rates.refused(ran(state, 10), now, now)
    assert 11.0 < failed.rate < 11.64
    assert failed.refused == 12.0
    assert failed.probe_at == now + 2 * PROBE_FIRST_S


def test_a_server_that_takes_more_again_is_asked_for_more() -> None:
    state = quiet(replace(LEARNED, limit=20.0), 1200.0)
    assert state.rate == 20.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 30)), min_size=1, max_size=200))
def test_error_answers_never_raise_a_rate(answers: list[tuple[bool, float]]) -> None:
    state, now = LEARNED, 0.0
    for is_error, wait_s in answers:
        now += wait_s
        state = rates.answered(state, is_error=is_error)
        state = rates.refused(state, now, now) if wait_s > 29 else state
        assert state.rate <= LEARNED.rate


def test_errors_among_successes_hold_the_rate_where_it_is() -> None:
    state, now = LEARNED, 0.0
    for number in range(2000):
        now += 1 / state.rate
        if number % 10 == 9:
            state = rates.answered(state, is_error=True)
        else:
            state = rates.succeeded(state, 0.05, now)
    assert state.rate == LEARNED.rate


def test_a_rate_that_was_not_used_is_not_proven() -> None:
    state, now = LEARNED, 0.0
    for _ in range(200):
        now += 1.0  # asked for once a second, whatever the rate
        state = rates.succeeded(state, 0.05, now)
    assert (state.rate, state.proven) == (LEARNED.rate, LEARNED.proven)


def test_rising_latency_cuts_and_normal_latency_creeps_back() -> None:
    state = quiet(starting_rate(10.0, 1.0, 0.0), 60.0)
    slowed = quiet(state, 12.0, latency_s=2.0)
    assert 1.0 <= slowed.rate < 10.0
    assert quiet(slowed, 300.0).rate == 10.0


def test_latency_that_merely_varies_changes_nothing() -> None:
    state, now = starting_rate(10.0, 1.0, 0.0), 0.0
    for number in range(3000):
        now += 0.1
        state = rates.succeeded(state, 0.02 + 0.1 * (number % 3), now)
        assert state.rate == 10.0


EVENTS = st.lists(
    st.tuples(st.sampled_from(["ok", "error", "refused", "slow", "limit"]), st.floats(0, 20)),
    max_size=150,
)


@given(EVENTS, st.floats(0.05, 100), st.floats(0.01, 200))
def test_never_above_the_limit_never_below_the_floor(
    events: list[tuple[str, float]], limit: float, floor: float
) -> None:
    state, now = starting_rate(limit, floor, 0.0), 0.0
    for event, wait_s in events:
        now += wait_s
        if event == "ok":
            state = rates.succeeded(state, 0.05, now)
        elif event == "slow":
            state = rates.succeeded(state, 9.0, now)
        elif event == "error":
            state = rates.answered(state, is_error=True)
        elif event == "limit":
            state = rates.limited(state, state.limit * 0.9, now)
        else:
            state = rates.refused(state, now, now)
        assert state.floor - 1e-9 <= state.rate <= state.limit + 1e-9 <= limit + 1e-8


@pytest.mark.parametrize(
    ("learned", "rate"), [(None, 3.0), ((2.0, 2.0, 2.5), 2.0), ((9.0, 9.0, 9.5), 3.0)]
)
def test_what_earlier_waves_learned_is_where_it_starts(
    learned: tuple[float, float, float] | None, rate: float
) -> None:
    assert starting_rate(3.0, 0.1, 0.0, learned).rate == rate


def simulated(rate: float, burst: float, images: int, first_s: float) -> Figures:
    budget = Budget("g", 50.0, backoff=Backoff(first_s=first_s))
    return simulate(LeakyServer(rate, burst), images, budget, seed=1, network=Network())


@pytest.mark.parametrize(("rate", "burst"), [(7.0, 5), (13.0, 1), (20.0, 3)])
def test_hidden_limits_are_found_and_kept(rate: float, burst: float) -> None:
    """The short form of simulate_rates: under 1% refused, 90% of what the server allows."""
    found = simulated(rate, burst, images=int(rate * 240), first_s=2.0)
    assert found.refused_later < 0.01
    assert found.goodput_later >= 0.9


def test_nine_hundred_images_at_a_hidden_ten_a_second() -> None:
    found = simulated(10.0, 3, images=900, first_s=2.0)
    assert found.refused < 0.02
    assert found.seconds <= 1.35 * 90
