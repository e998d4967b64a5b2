"""What this run asks for again though it is finished; `waves.renewal` writes it down.

1. `retry_failed`: a final failure of one of these classes is pending again, if it was written
   before `retry_wave`. It gets one wave more: what that brings stands, until the setting changes.
2. `revalidate`: an image last seen before `seen_before` is asked for again, once, in a wave from
   `seen_wave` on. It stays what it is until the server has another one.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from distributed_downloader.durable import read_json
from distributed_downloader.paths import OutputPaths


@dataclass(frozen=True, slots=True)
class Again:
    """The content of again.json; waves are the first that count for the run."""

    retry_failed: tuple[str, ...] = ()
    retry_wave: int = 0
    seen_before: float | None = None  # unix seconds; None: no image is asked for again
    seen_wave: int = 0

    @classmethod
    def of(cls, paths: OutputPaths) -> "Again":
        """What was written down; nothing before the first run that asks for it."""
        said = read_json(paths.again)
        return cls(**{**said, "retry_failed": tuple(said["retry_failed"])}) if said else cls()

    @property
    def is_failed(self) -> pl.Expr:
        """Of a row of errors: whether it is asked for again."""
        is_before = pl.col("wave") < self.retry_wave
        return pl.col("error_class").is_in(list(self.retry_failed)) & is_before

    @property
    def is_old(self) -> pl.Expr:
        """Of a row of images: whether it is asked for again."""
        if self.seen_before is None:
            return pl.lit(False)
        before = pl.lit(datetime.fromtimestamp(self.seen_before, UTC))
        is_asked = pl.col("asked_wave").fill_null(-2) >= self.seen_wave
        return (pl.coalesce("validated_at", "fetched_at") < before) & ~is_asked


NOTHING_AGAIN = Again()
