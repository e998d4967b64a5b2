"""A small output folder, written with the library's own parts: what the ledger is tested on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from distributed_downloader.configuration.config import resolve_config, settings_of
from distributed_downloader.durable import write_json, write_parquet
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import Encoded, ErrorClass, Failed, Fetched, Row, State
from distributed_downloader.settings import Settings
from distributed_downloader.storage.parts import PartNames, PartWriter
from distributed_downloader.tables import DUPLICATES, LEARNED, PARTITIONS, PROFILES, URLS

START = 1_700_000_000.0
RETRIES_WAVES = 3

# an outcome is "ok", "pending", "removed", or an ErrorClass
RETRYABLE = (ErrorClass.TIMEOUT, ErrorClass.SERVER_ERROR, ErrorClass.RATE_LIMITED)
REFUSED = (ErrorClass.ROBOTS_DISALLOWED, ErrorClass.OPTED_OUT, ErrorClass.PRIVATE_ADDRESS)
OUTCOMES = ("ok", "pending", ErrorClass.NOT_FOUND, *RETRYABLE, *REFUSED)


def state_of(outcome: str) -> State:
    if outcome in ("ok", "pending"):
        return State(outcome)
    if outcome in REFUSED:
        return State.REFUSED
    return State.FAILED_RETRYABLE if outcome in RETRYABLE else State.FAILED_FINAL


@dataclass
class DatasetFolder:
    """Batches of rows with outcomes; `finish` writes the tables over them."""

    root: Path
    rejected: int = 0
    duplicates: int = 0
    batches: dict[Batch, list[tuple[str, str, str]]] = field(default_factory=dict)
    uuids: int = 0
    clock: float = START

    @property
    def paths(self) -> OutputPaths:
        return self.settings().paths

    def settings(self, **config: object) -> Settings:
        given = {
            "path_to_input": "urls.txt",
            "path_to_output": str(self.root),
            "politeness": {"allow_private_addresses": True},
            **config,
        }
        return settings_of(resolve_config(given))

    def add(
        self, batch: Batch, outcomes: Sequence[str], *, server: str | None = None, wave: int = 0
    ) -> list[str]:
        """Rows with these outcomes; returns their uuids."""
        rows = []
        for outcome in outcomes:
            self.uuids += 1
            rows.append((f"uuid-{self.uuids}", server or batch.server_name, outcome))
        self.batches.setdefault(batch, []).extend(rows)
        self._commit(batch, rows, wave)
        return [uuid for uuid, _, _ in rows]

    def _commit(self, batch: Batch, rows: list[tuple[str, str, str]], wave: int) -> None:
        writer = PartWriter(batch, PartNames(wave, 0), clock=self._tick)
        for uuid, server, outcome in rows:
            row = Row(uuid, None, f"http://{server}/{uuid}.jpg", server, batch)
            if outcome == "ok":
                writer.add_image(row, FETCHED, ENCODED)
            elif outcome != "pending":
                retryable = outcome in RETRYABLE
                writer.add_error(row, Failed(ErrorClass(outcome), -1, "no", retryable))
        writer.commit(self.paths.batch_images(batch), lambda: None)

    def _tick(self) -> float:
        self.clock += 0.25
        return self.clock

    def finish(self) -> "DatasetFolder":
        paths = self.paths
        for batch, rows in self.batches.items():
            columns = {"uuid": [row[0] for row in rows], "server": [row[1] for row in rows]}
            known = pl.DataFrame(columns, {"uuid": pl.String, "server": pl.String})
            rest = [pl.lit(None, pl.String).alias(name) for name in URLS if name not in columns]
            table = known.with_columns(rest).select(URLS.names())
            write_parquet(paths.batch_urls(batch), table)
        sizes = [(b.server_name, b.partition_id, len(rows)) for b, rows in self.batches.items()]
        write_parquet(paths.partitions, pl.DataFrame(sizes, PARTITIONS, orient="row"))
        again = [(f"again-{n}", "uuid-1", None) for n in range(self.duplicates)]
        write_parquet(paths.duplicates, pl.DataFrame(again, DUPLICATES, orient="row"))
        refused = {"identifier": ["no url"] * self.rejected, "reason": ["no_host"] * self.rejected}
        schema = {"identifier": pl.String, "reason": pl.String}
        write_parquet(paths.rejected, pl.DataFrame(refused, schema))
        write_json(paths.source, {"counts": {"rows": self.rows}})
        return self

    @property
    def rows(self) -> int:
        return sum(map(len, self.batches.values())) + self.duplicates + self.rejected

    def learn(
        self, wave: int, groups: Sequence[dict[str, object]], *, seconds: float = 1, ranks: int = 1
    ) -> None:
        """What a finished wave wrote: learned.parquet, plan.json, progress.json."""
        folder = self.paths.wave(wave)
        rows = [{name: group.get(name) for name in LEARNED} for group in groups]
        write_parquet(folder / "learned.parquet", pl.DataFrame(rows, LEARNED))
        write_json(
            folder / "plan.json", {"ranks": ranks, "lower_bound_s": 30.0, "bound_group": "a"}
        )
        progress = {"ranks": ranks, "started": START, "ended": START + seconds, "changed": 1}
        write_json(folder / "progress.json", progress)

    def profile(self, servers: Sequence[dict[str, object]]) -> None:
        rows = [{name: server.get(name) for name in PROFILES} for server in servers]
        self.paths.profiles_table.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows, PROFILES).write_csv(self.paths.profiles_table)


FETCHED = Fetched(b"", 200, "http://example.org/", "image/jpeg", None, None, 0.1)
STORED = b"twelve bytes"
MD5 = hashlib.md5(STORED).hexdigest()
ENCODED = Encoded(STORED, None, MD5, MD5, (2, 3), (2, 3), None)
