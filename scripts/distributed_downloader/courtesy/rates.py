"""The rate that a server really takes, learned between a floor and the limit. Never above it.

Servers refuse when a bucket of theirs, of unknown size, runs over: so many requests at once, and
then so many a second. Two runs (from a quiet start to a refusal) of different length tell the two
apart: what the longer one got accepted more, over the time it lasted longer, is the rate.

1. A group starts at its limit, or at what earlier waves learned after a refusal.
2. A refusal cuts to just below what the run shows was accepted: at least a little, at most to half.
3. A run of quiet success proves its rate. Only then, and only if it was really used, it creeps up
   towards the lowest refused rate, in ever smaller steps, and stays just below.
4. Above a refused rate it probes rarely, and after each failure half as often.
5. Rising latency cuts too. An error answer never raises a rate: it starts the run anew.

Pure functions of (state, event, now); times are seconds on the caller's clock.
"""

from dataclasses import dataclass, replace

PROVE_S = 10.0  # a run this long,
PROVE_ANSWERS = 20  # and of so many successes, proves its rate
RUNS_KEPT = 8  # to look back on at a refusal
USED = 0.8  # of a rate must have been used to prove it
SAME = 1.005  # rates this close are one
FULLY_USED = 0.95
ASSUMED_BURST = 10.0  # a server's bucket is at most this, as long as nothing is known of it
MARGIN = 0.97  # how far below what a server takes we stay
STEP = 0.4  # of the way up to there, at once
NEAR = 0.01  # of a rate is not worth a step
LIGHT_STEP = 1.25  # upwards, when no refusal is known
PROBE_FIRST_S = 300.0
PROBE_MAX_S = 14_400.0
PROBE_STEP = 1.06
LIFT = 1.25  # a probe that held: the next refusal is thought this much further up
LATENCY_RATIO = 2.0
LATENCY_EXTRA_S = 0.25
LATENCY_CUT = 0.8
LATENCY_RUN_S = 5.0


@dataclass(frozen=True, slots=True)
class Run:
    """What was answered since the rate last changed or a block ended."""

    since: float
    answers: int = 0  # all but refusals
    successes: int = 0  # since the last error
    earlier: tuple[tuple[int, float], ...] = ()  # (answers, seconds) of the runs before, proven


@dataclass(frozen=True, slots=True)
class RateState:
    """What is known of the rate that a group takes; rates in requests per second."""

    rate: float
    limit: float
    floor: float
    run: Run
    proven: float = 0.0  # the highest that held for a whole run
    refused: float | None = None  # the lowest that is known to be refused
    shortest: tuple[int, float] | None = None  # (answers, seconds) of the shortest refused run
    probe_at: float = 0.0
    probe_after_s: float = PROBE_FIRST_S
    latency_fast_s: float | None = None
    latency_slow_s: float | None = None


def starting_rate(
    limit: float, floor: float, now: float, learned: tuple[float, float, float] | None = None
) -> RateState:
    """At the limit, or at (rate, proven, refused) of an earlier wave."""
    floor = min(floor, limit)
    if learned is None:
        return RateState(limit, limit, floor, Run(now))
    rate, proven, refused_rate = learned
    return RateState(
        rate=_within(rate, floor, limit),
        limit=limit,
        floor=floor,
        run=Run(now),
        proven=min(proven, limit),
        refused=refused_rate,
        probe_at=now + PROBE_FIRST_S,
    )


def is_above_proven(state: RateState) -> bool:
    """Whether the rate has yet to prove itself."""
    return state.rate > state.proven * SAME


def limited(state: RateState, limit: float, now: float) -> RateState:
    """A lower limit from now on (a Crawl-delay was read)."""
    floor, rate = min(state.floor, limit), min(state.rate, limit)
    return replace(state, limit=limit, floor=floor, rate=rate, run=Run(now))


def resumed(state: RateState, at: float) -> RateState:
    """A block ends then: a new run begins."""
    return replace(state, run=Run(at))


def succeeded(state: RateState, latency_s: float, now: float) -> RateState:
    """An answer that brought something (status below 400)."""
    run = state.run
    run = replace(run, answers=run.answers + 1, successes=run.successes + 1)
    state = _with_latency(replace(state, run=run), latency_s)
    if _is_slowing(state, now):
        return _slowed(state, now)
    if now - run.since < PROVE_S or run.successes < PROVE_ANSWERS:
        return state
    return _proved(state, now)


def answered(state: RateState, *, is_error: bool) -> RateState:
    """An answer that neither brought anything nor was a refusal; an error ends quiet success."""
    run = state.run
    successes = 0 if is_error else run.successes
    return replace(state, run=replace(run, answers=run.answers + 1, successes=successes))


def refused(state: RateState, sent: float, now: float) -> RateState:
    """A refusal that began a block. Says nothing about the rate if nothing was accepted before."""
    run, lasted_s = state.run, sent - state.run.since
    if run.answers == 0 or lasted_s <= 0:
        return replace(state, run=Run(now))
    failed_probe = state.refused is not None and state.rate > state.refused
    low, high = _kept(state) if failed_probe else _estimate(state, lasted_s)
    was_probing = state.refused is not None and now >= state.probe_at
    probe_after_s = min(state.probe_after_s * (2 if was_probing else 1), PROBE_MAX_S)
    return replace(
        state,
        rate=_within(low * MARGIN, state.floor, state.limit),
        proven=min(state.proven, high),
        refused=high,
        run=Run(now),
        shortest=_shorter(state, lasted_s),
        probe_at=now + probe_after_s,
        probe_after_s=probe_after_s,
    )


def _kept(state: RateState) -> tuple[float, float]:
    """A probe that failed says nothing new: what was known before it still holds."""
    assert state.refused is not None
    return min(state.proven, state.refused), state.refused


def _estimate(state: RateState, lasted_s: float) -> tuple[float, float]:
    """Between which rates the server's own lies, as far as these runs can tell.

    The bucket is full now, and began to fill with one of the runs: the one that fits best.
    """
    low, high = 0.0, 0.0
    answers, seconds = 0, 0.0
    for more, more_s in ((state.run.answers, lasted_s), *reversed(state.run.earlier)):
        answers, seconds = answers + more, seconds + more_s
        least, most = _between(answers, seconds, state.shortest)
        low, high = max(low, least), max(high, most)
    high = _within(high, state.rate / 2, state.rate)
    return _within(low, state.rate / 2, high), high


def _between(
    answers: int, seconds: float, shortest: tuple[int, float] | None
) -> tuple[float, float]:
    """The rate of a bucket that was empty, and ran over after so many answers and seconds."""
    if shortest and seconds > 2 * shortest[1] + 0.5:
        burst, burst_s = shortest
        rest_s = seconds - burst_s
        return (answers - burst - 1) / rest_s, (answers - burst + 1) / rest_s
    return (answers - ASSUMED_BURST) / seconds, (answers + 1) / seconds


def _shorter(state: RateState, lasted_s: float) -> tuple[int, float] | None:
    """Runs that began with an empty bucket tell its size: the shorter the better."""
    known = state.shortest
    if state.run.earlier or (known is not None and known[1] <= lasted_s):
        return known
    return state.run.answers, lasted_s


def _proved(state: RateState, now: float) -> RateState:
    """The run is long enough: its rate is proven if it was used, and the next one begins."""
    run, lasted_s = state.run, now - state.run.since
    used = run.answers / lasted_s
    earlier = (*run.earlier, (run.answers, lasted_s))[-RUNS_KEPT:]
    begun = replace(state, run=Run(now, earlier=earlier))
    if used < state.rate * USED:
        return begun
    good = state.rate if used >= state.rate * FULLY_USED else used
    begun = replace(begun, proven=max(state.proven, good))
    if state.refused is not None and good > state.refused:
        begun = replace(begun, refused=good * LIFT)
    return _raised(begun, now)


def _raised(state: RateState, now: float) -> RateState:
    """The next rate after a proven one."""
    if state.rate >= state.limit:
        return state
    if state.refused is None:
        return replace(state, rate=min(state.rate * LIGHT_STEP, state.limit))
    aim = min(state.refused * MARGIN, state.limit)
    if aim - state.rate > state.rate * NEAR:
        return replace(state, rate=state.rate + (aim - state.rate) * STEP)
    if now < state.probe_at:
        return state
    return replace(state, rate=min(state.rate * PROBE_STEP, state.limit))


def _with_latency(state: RateState, latency_s: float) -> RateState:
    return replace(
        state,
        latency_fast_s=_mean(state.latency_fast_s, latency_s, 0.2),
        latency_slow_s=_mean(state.latency_slow_s, latency_s, 0.01),
    )


def _mean(mean: float | None, value: float, weight: float) -> float:
    return value if mean is None else mean + weight * (value - mean)


def _is_slowing(state: RateState, now: float) -> bool:
    fast, slow = state.latency_fast_s or 0.0, state.latency_slow_s or 0.0
    is_settled = now - state.run.since >= LATENCY_RUN_S and state.run.answers >= PROVE_ANSWERS / 2
    return is_settled and fast > slow * LATENCY_RATIO + LATENCY_EXTRA_S


def _slowed(state: RateState, now: float) -> RateState:
    rate = max(state.rate * LATENCY_CUT, state.floor)
    return replace(state, rate=rate, run=Run(now))


def _within(value: float, low: float, high: float) -> float:
    return max(low, min(value, high))
