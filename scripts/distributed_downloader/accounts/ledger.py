"""The ledger: for every input row exactly one state, recomputed from the files alone.

It is written batch by batch, so that memory does not grow with the rows, and it is held against
what partition wrote down. A batch whose files did not change since the last count is not opened
again (`recollection`); of all others every byte is read (`storage.damage`). Rules of a row's state:

1. an image, a failure or a removal that the images folder records is the row's state;
2. a row of which nothing is recorded is pending;
3. a row that the list has no more is not an input row: it is in tombstones.parquet;
4. a row whose server is in the ignored table is ignored, unless it is ok or removed already;
5. rejected and duplicate rows are what partition made them.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from distributed_downloader.accounts.counts import BatchCount, Counts, Tally, count_batch
from distributed_downloader.accounts.recollection import Look, Notes, Recollection
from distributed_downloader.accounts.repeats import Repeats
from distributed_downloader.accounts.sums import listed_batches, repeated, slices, totals
from distributed_downloader.checksums import UNSEALED, is_whole, seal
from distributed_downloader.courtesy.ignored import is_ignored, read_ignored
from distributed_downloader.durable import whole_file
from distributed_downloader.lists.generations import Generation, lost_rows
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import State
from distributed_downloader.settings import Settings
from distributed_downloader.storage.batch_files import REMOVED_NAME, read_states, without_gone
from distributed_downloader.storage.evidence import images_of, problems_of, removals_of
from distributed_downloader.storage.mending import Mender, Writing
from distributed_downloader.tables import LEDGER
from distributed_downloader.urls.normalise import server_of
from distributed_downloader.waves.left import rules_of_today
from distributed_downloader.waves.writers import writing_alone

GroupOf = Callable[[str], str]

WITHOUT_FILES = (State.PENDING.value, State.IGNORED.value)  # states that no file needs to prove
KEPT_WHEN_IGNORED = (State.OK.value, State.REMOVED.value)
NAMED = 5  # so many problems are named in the sentence, the rest is counted

_log = logging.getLogger(__name__)


def own_group(server: str) -> str:
    """Each server as its own group: what is said when nobody knows better."""
    return server


@dataclass(slots=True)
class Recount:
    """One pass over the files: what it found, and what does not add up."""

    paths: OutputPaths
    retries_waves: int
    ignored: frozenset[str]
    mender: Mender
    is_full: bool
    known: Recollection | None
    tally: Tally = field(default_factory=Tally)
    notes: Notes = field(default_factory=Notes)
    problems: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)

    def is_known(self, number: int, look: Look) -> bool:
        """Whether the batch of this number need not be opened."""
        return not self.is_full and self.known is not None and self.known.is_same(number, look)


def write_ledger(
    settings: Settings, group_of: GroupOf = own_group, writing: Writing | None = None
) -> Counts:
    """Recount what changed, all of it with `verify: full`; write `ledger.parquet` if sums match.

    Damaged files are taken out of use, for which `writing` opens the folder (None: with the writer
    lock). Raises LedgerError, naming the batches and the numbers, if the sums do not match.
    """
    paths = settings.paths
    partitions, rules = listed_batches(paths), rules_of_today(settings)
    recount = Recount(
        paths,
        settings.retries_waves,
        read_ignored(paths.ignored_table),
        Mender(paths, writing or partial(writing_alone, paths, "verify")),
        is_full=settings.verify == "full",
        known=Recollection.of(paths, rules, partitions),
    )
    with Repeats(paths.root, int(partitions["rows"].sum())) as repeats:
        rows = _rows(recount, partitions, repeats)
        with whole_file(paths.ledger) as beside:
            _sink(rows, beside)
            recount.problems += totals(paths, partitions)
            recount.problems += repeated(repeats, beside)
            _complain(recount.problems, paths)
            seal(beside)
    recount.notes.write(paths, rules)
    counts = recount.tally.counts(group_of)
    _log.info("the ledger accounts for %d rows: %s", counts.rows, counts.states)
    return replace(counts, damages=tuple(recount.damages))


def _sink(rows: Iterator[pl.DataFrame], file: Path) -> None:
    """Write the frames as they come; polars holds a few of them."""

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,  # noqa: ARG001 (a sink asks for every row)
        n_rows: int | None,  # noqa: ARG001
        batch_size: int | None,  # noqa: ARG001
    ) -> Iterator[pl.DataFrame]:
        for frame in rows:
            yield frame.select(with_columns or LEDGER.names())

    register_io_source(source, schema=LEDGER).sink_parquet(file, metadata=UNSEALED)


def _rows(recount: Recount, partitions: pl.DataFrame, repeats: Repeats) -> Iterator[pl.DataFrame]:
    """Every input row once, as ledger rows: batches, then duplicates, then rejected."""
    for table in _batches(recount, partitions):
        repeats.add(table["uuid"])
        recount.tally.add(table)
        yield table
    current = Generation.of(recount.paths)
    for table in slices(current.duplicates):
        repeats.add(table["uuid"])
        yield _apart(table, State.DUPLICATE, recount)
    for table in slices(current.rejected):
        yield _apart(table, State.REJECTED, recount)


def _batches(recount: Recount, partitions: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of all batches in their order; those of neighbours that did not change together."""
    first: int | None = None  # of the batches since which nothing had changed
    for number, (server_name, partition_id, rows) in enumerate(partitions.iter_rows()):
        batch = Batch(server_name, partition_id)
        look = Look.at(batch, recount.paths)
        if recount.known and recount.is_known(number, look):
            first = number if first is None else first
            _note(recount, batch, rows, look, recount.known.count(number))
            continue
        if recount.known and first is not None:
            yield from recount.known.rows(first, number - 1)
            first = None
        table = batch_rows(batch, rows, number, recount)
        if table is not None:
            yield table
    if recount.known and first is not None:
        yield from recount.known.rows(first, len(partitions) - 1)


def _note(recount: Recount, batch: Batch, rows: int, look: Look, count: BatchCount) -> None:
    recount.tally.add_batch(count)
    if REMOVED_NAME in look.files:
        recount.tally.add_removals(removals_of(batch, recount.paths))
    recount.notes.add(batch, rows, look, count)


def batch_rows(batch: Batch, rows: int, number: int, recount: Recount) -> pl.DataFrame | None:
    """LEDGER of one batch, the one of this number in partitions.parquet, from its files.

    What does not match goes to `recount.problems`, what is damaged is taken out of use.
    """
    paths = recount.paths
    file = paths.batch_urls(batch)
    if not file.is_file() or not is_whole(file):
        what = "a damaged" if file.is_file() else "no"
        recount.problems.append(f"{batch.folder} has {what} {file.name}")
        return None
    damages = recount.mender.mend(batch)
    look = Look.at(batch, paths)
    urls = pl.read_parquet(file, columns=["uuid", "source_id", "server"], hive_partitioning=False)
    urls = without_gone(urls, batch, paths)
    states = read_states(batch, paths, recount.retries_waves)
    images = images_of(batch, paths)
    recount.problems += _mismatches(batch, rows, urls, states)
    recount.problems += problems_of(batch, paths, images, states)
    recount.damages += damages or _forgotten(batch, number, look, states, recount)
    table = _ledger(batch, urls, states, recount)
    _note(recount, batch, rows, look, count_batch(table, images))
    return table.select(LEDGER.names())


def _forgotten(
    batch: Batch, number: int, look: Look, states: pl.DataFrame, recount: Recount
) -> Iterator[str]:
    """Rows that had a state at the last count, and of which no file knows any more."""
    if recount.known is None:
        return
    before = pl.concat([LEDGER.to_frame(), *recount.known.rows(number, number)])
    had_one = before.filter(~pl.col("state").is_in(WITHOUT_FILES))
    had_one = without_gone(had_one, batch, recount.paths)
    count = len(had_one.join(states, on="uuid", how="anti"))
    if count:
        gone = sorted(set(recount.known.files(number)) - set(look.files))
        recount.mender.reopen(batch)
        yield f"{batch.folder} has lost {', '.join(gone) or 'rows'} ({count} rows)"


def _mismatches(batch: Batch, rows: int, urls: pl.DataFrame, states: pl.DataFrame) -> Iterator[str]:
    if len(urls) != rows:
        yield f"{batch.folder} has {len(urls)} rows in urls.parquet, {rows} in partitions.parquet"
    twice = len(states) - states["uuid"].n_unique()
    if twice:
        yield f"{batch.folder} has {twice} rows with more than one state"
    unknown = len(states.join(urls, on="uuid", how="anti"))
    if unknown:
        yield f"{batch.folder} has states of {unknown} rows that are not in its urls.parquet"


def _ledger(
    batch: Batch, urls: pl.DataFrame, states: pl.DataFrame, recount: Recount
) -> pl.DataFrame:
    known = states.unique("uuid", keep="first").drop("waves_tried", "retry_count")
    stopped = [s for s in urls["server"].unique().to_list() if is_ignored(s, recount.ignored)]
    ignored = pl.col("server").is_in(stopped) & ~pl.col("state").is_in(KEPT_WHEN_IGNORED)
    table = urls.join(known, on="uuid", how="left", maintain_order="left").with_columns(
        pl.col("state").fill_null(State.PENDING.value)
    )
    table = table.with_columns(
        state=pl.when(ignored).then(pl.lit(State.IGNORED.value)).otherwise("state"),
        server_name=pl.lit(batch.server_name),
        partition_id=pl.lit(batch.partition_id, pl.Int64),
    )
    return with_asked(table).cast({"error_code": pl.Int32})


def with_asked(table: pl.DataFrame) -> pl.DataFrame:
    """Add `asked`: the server that a row will be asked of, a redirect's target if it has one."""
    target = pl.col("target").map_elements(server_of, return_dtype=pl.String)
    return table.with_columns(pl.coalesce(target, "server").alias("asked"))


def _apart(table: pl.DataFrame, state: State, recount: Recount) -> pl.DataFrame:
    """Rows that have no batch, as LEDGER; the reason of a rejected one is its error_class."""
    given = {name: pl.col(name) for name in table.columns if name in ("uuid", "source_id")}
    if "reason" in table.columns:
        given["error_class"] = pl.col("reason")
    rows = table.select(
        [given.get(name, pl.lit(None)).cast(LEDGER[name]).alias(name) for name in LEDGER.names()]
    ).with_columns(state=pl.lit(state.value))
    recount.tally.add(rows)
    return rows


def _complain(problems: list[str], paths: OutputPaths) -> None:
    if not problems:
        return
    for problem in problems:
        _log.error("%s", problem, extra={"told": True})
    more = f"; and {len(problems) - NAMED} more, see the log" if len(problems) > NAMED else ""
    raise lost_rows(paths, f"The files do not add up: {'; '.join(problems[:NAMED])}{more}")
