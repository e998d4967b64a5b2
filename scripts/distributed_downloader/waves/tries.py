"""How often a row is asked for in a wave, and whether the wave counts for it. Pure decisions."""

from dataclasses import dataclass, replace

from distributed_downloader.records import Failed, Try

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a rank tries."""

    tries_per_row: int  # requests for a row in this wave, at most
    patience_s: float  # when only groups blocked for longer are left in the wave, it ends
    keeps_retryable: bool = True  # False: a sample that failed for now is left as it was


def next_try_s(attempt: Try, failed: Failed, effort: Effort, chance: float) -> float | None:
    """Seconds until the row is tried again in this wave, or None.

    When its group was refused, the group's pace makes it wait. Else the delay doubles from try to
    try, spread by `chance` in [0, 1). Requests are counted whoever is to blame: a URL that always
    fails is asked for `tries_per_row` times in a wave, not more (see `weighed`).
    """
    if not failed.was_sent:
        return 0.0
    if not failed.retryable or not effort.keeps_retryable or failed.is_over_for_now:
        return None
    if attempt.requests + 1 >= effort.tries_per_row:
        return None
    if not failed.costs_a_try and failed.error_code > 0:
        return 0.0
    return min(RETRY_FIRST_S * 2.0 ** (attempt.number - 1), RETRY_MAX_S) * (0.5 + chance)


def weighed(attempt: Try, failed: Failed, effort: Effort) -> Failed:
    """A row's last failure in this wave, as it is kept.

    The wave counts only if each of the tries did: a row that was refused in its group's block has
    lost some of them to others. The next wave gives it new ones.
    """
    tries = attempt.number - 1 + failed.costs_a_try
    if failed.is_over_for_now or tries >= effort.tries_per_row:
        return failed
    return replace(failed, costs_a_try=False)
