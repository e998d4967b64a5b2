"""What finished rows a run asks for again, written down by its first plan: again.json.

1. `retry_failed` counts when it changes: then failures that came before the run's first wave are
   asked for again. With the same setting the same command goes on with that, and once it is done
   does not begin anew; whoever wants it a second time empties the setting for one run.
2. `revalidate` counts in every run: what is old when it begins is asked for, at most once in it.
"""

import time
from collections.abc import Callable
from dataclasses import asdict

from distributed_downloader.durable import write_json
from distributed_downloader.settings import Settings
from distributed_downloader.storage.again import Again

DAY_S = 86_400


def write_again(settings: Settings, first_wave: int, now: Callable[[], float] = time.time) -> Again:
    """Write down what this run, whose first wave has that number, asks for again."""
    before = Again.of(settings.paths)
    is_new = settings.retry_failed != before.retry_failed
    days = settings.revalidate_days
    again = Again(
        retry_failed=settings.retry_failed,
        retry_wave=first_wave if is_new else before.retry_wave,
        seen_before=None if days is None else now() - days * DAY_S,
        seen_wave=first_wave,
    )
    if again != before:
        write_json(settings.paths.again, asdict(again))
    return again
