"""What the ledger counts while its rows go by, in memory that does not grow with the rows."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from distributed_downloader.records import State
from distributed_downloader.waves.left import LeftRows

PER_SERVER = pl.Schema(
    {
        "server": pl.String,  # null: rejected and duplicate rows
        "state": pl.String,
        "error_class": pl.String,  # of rejected rows the reason
        "rows": pl.Int64,
    }
)
LEFT_STATES = (State.PENDING.value, State.FAILED_RETRYABLE.value)
WIDTHS_S = (  # each divides the next
    *(1, 5, 10, 30, 60, 300, 600, 1800, 3600),
    *(10_800, 21_600, 86_400, 604_800),
)
MOST_BUCKETS = 60  # as many as a figure shows well
COMPACT_ROWS = 200_000


REMOVALS = pl.Schema(
    {"tool": pl.String, "reason": pl.String, "refetch": pl.Boolean, "rows": pl.Int64}
)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Images stored per stretch of `width_s` seconds; keys are the unix time each one begins at."""

    width_s: int
    images: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class WaveImages:
    """Images of one wave that are stored, with the first and last time (unix seconds)."""

    images: int
    first: float
    last: float
    unchanged: int = 0  # of them, those whose server was asked again and has the same

    def plus(self, other: "WaveImages") -> "WaveImages":
        """Both together."""
        first, last = min(self.first, other.first), max(self.last, other.last)
        unchanged = self.unchanged + other.unchanged
        return WaveImages(self.images + other.images, first, last, unchanged)


@dataclass(frozen=True, slots=True)
class BatchCount:
    """What is counted of a batch beside its ledger rows; small, whatever its size."""

    left: Mapping[str, LeftRows]  # by the server that is to be asked
    waves: Mapping[int, WaveImages]
    timeline: Timeline


@dataclass(frozen=True, slots=True)
class Counts:
    """A ledger in numbers."""

    rows: int
    servers: pl.DataFrame  # PER_SERVER
    left: Mapping[str, LeftRows]  # by group
    waves: Mapping[int, WaveImages]  # -1: samples that profile fetched
    timeline: Timeline
    damages: tuple[str, ...] = ()  # sentences on files that are taken out of use
    removals: pl.DataFrame = field(default_factory=REMOVALS.to_frame)

    @property
    def states(self) -> dict[str, int]:
        """Rows in each state, in the order of `State`, zeros included."""
        found = _sums(self.servers, "state")
        return {state.value: found.get(state.value, 0) for state in State}


def count_batch(rows: pl.DataFrame, images: pl.DataFrame) -> BatchCount:
    """Of ledger rows with the server `asked` for them, and of stored images."""
    left: dict[str, Counter[str]] = defaultdict(Counter)
    mine = rows.filter(pl.col("state").is_in(LEFT_STATES))
    for server, state, count in mine.group_by("asked", "state").len().sort("asked").iter_rows():
        left[server][state] = count
    is_same = pl.col("validated_at").is_not_null()
    second = pl.col("fetched_at").dt.epoch("us") / 1e6
    times = images.select("wave", second=second, unchanged=is_same).drop_nulls()
    whole = pl.col("second").floor().cast(pl.Int64)
    seconds = Counter(dict(times.group_by(whole).len().iter_rows()))
    first, last = pl.min("second").alias("first"), pl.max("second").alias("last")
    waves = times.group_by("wave").agg(pl.len(), first, last, pl.sum("unchanged"))
    return BatchCount(
        left={
            server: LeftRows(of[State.PENDING.value], of[State.FAILED_RETRYABLE.value])
            for server, of in left.items()
        },
        waves={wave: WaveImages(*rest) for wave, *rest in waves.sort("wave").iter_rows()},
        timeline=_timeline(seconds, WIDTHS_S[0]),
    )


class Tally:
    """Adds up batch after batch."""

    def __init__(self) -> None:
        self._servers = [pl.DataFrame(schema=PER_SERVER)]
        self._removals = REMOVALS.to_frame()
        self._held = 0
        self._left: dict[str, LeftRows] = {}
        self._waves: dict[int, WaveImages] = {}
        self._seconds: Counter[int] = Counter()
        self._width_s = WIDTHS_S[0]

    def add(self, rows: pl.DataFrame) -> None:
        """Ledger rows, of any number of batches."""
        counted = rows.group_by("server", "state", "error_class").agg(
            pl.len().cast(pl.Int64).alias("rows")
        )
        self._servers.append(counted.select(PER_SERVER.names()))
        self._held += len(counted)
        if self._held > COMPACT_ROWS:
            self._servers, self._held = [self._compact()], 0

    def add_removals(self, removed: pl.DataFrame) -> None:
        """Images that tools took out: REMOVALS."""
        keys = ["tool", "reason", "refetch"]
        known = pl.concat([self._removals, removed.select(REMOVALS.names())])
        self._removals = known.group_by(keys).agg(pl.col("rows").sum()).sort(keys)

    def add_batch(self, batch: BatchCount) -> None:
        """What else is known of a batch.

        Its timeline may be coarser than ours: then ours will be as coarse, too, for it is longer.
        """
        for server, rows in batch.left.items():
            self._left[server] = self._left.get(server, LeftRows()).plus(rows)
        for wave, images in batch.waves.items():
            known = self._waves.get(wave, WaveImages(0, images.first, images.last))
            self._waves[wave] = known.plus(images)
        for second, count in batch.timeline.images.items():
            self._seconds[second // self._width_s * self._width_s] += count
        while len(self._seconds) > COMPACT_ROWS:
            self._width_s = WIDTHS_S[WIDTHS_S.index(self._width_s) + 1]
            self._seconds = _coarser(self._seconds, self._width_s)

    def counts(self, group_of: Callable[[str], str]) -> Counts:
        """Everything so far."""
        servers = self._compact()
        left: dict[str, LeftRows] = {}
        for server, rows in self._left.items():
            group = group_of(server)
            left[group] = left.get(group, LeftRows()).plus(rows)
        return Counts(
            rows=int(servers["rows"].sum()),
            servers=servers,
            left=dict(sorted(left.items())),
            waves=dict(sorted(self._waves.items())),
            timeline=_timeline(self._seconds, self._width_s),
            removals=self._removals,
        )

    def _compact(self) -> pl.DataFrame:
        keys = ["server", "state", "error_class"]
        return pl.concat(self._servers).group_by(keys).agg(pl.col("rows").sum()).sort(keys)


def _timeline(seconds: Counter[int], width_s: int) -> Timeline:
    """The finest width that a figure can show from the first image to the last."""
    span_s = max(seconds) - min(seconds) if seconds else 0
    wide = [w for w in WIDTHS_S if w >= width_s and span_s / w < MOST_BUCKETS]
    width_s = min(wide, default=max(WIDTHS_S[-1], width_s))
    return Timeline(width_s, dict(sorted(_coarser(seconds, width_s).items())))


def _coarser(seconds: Counter[int], width_s: int) -> Counter[int]:
    wide: Counter[int] = Counter()
    for second, count in seconds.items():
        wide[second // width_s * width_s] += count
    return wide


def _sums(servers: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(servers.group_by(column).agg(pl.col("rows").sum()).iter_rows())
