"""Where everything lies under `path_to_output`, and how a batch is named.

Folders of batches are hive-style (`server_name=<quoted>/partition_id=<n>`), so that polars, DuckDB
and Spark read them as they are. Nothing else builds a path from a server's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

OUTPUT_STRUCTURE = {
    "urls_folder": "urls",
    "logs_folder": "logs",
    "images_folder": "images",
    "schedules_folder": "schedules",
    "profiles_table": "profiles.csv",
    "ignored_table": "ignored.csv",
    "inner_checkpoint_file": "checkpoint.json",
    "tools_folder": "tools",
}


SMALL_PREFIX = "_small-"  # no host starts so; the hash of a group follows


@dataclass(frozen=True, slots=True, order=True)
class Batch:
    """The unit of storing: at most `batch_size` rows of one server (or of many tiny ones)."""

    server_name: str
    partition_id: int

    @property
    def is_mixed(self) -> bool:
        """Whether it holds rows of many tiny servers."""
        return self.server_name.startswith(SMALL_PREFIX)

    @property
    def folder(self) -> Path:
        """Relative folder, e.g. `server_name=example.org%3A8080/partition_id=0`."""
        return Path(f"server_name={quote(self.server_name, safe='')}") / (
            f"partition_id={self.partition_id}"
        )

    @classmethod
    def from_folder(cls, folder: Path) -> "Batch":
        """The batch whose (absolute or relative) folder this is; ValueError if it is none."""
        key, _, server = folder.parent.name.partition("=")
        key_id, _, number = folder.name.partition("=")
        if (key, key_id) != ("server_name", "partition_id"):
            raise ValueError(f"not a batch folder: {folder}")
        return cls(unquote(server), int(number))


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """Absolute paths of one output folder; built once from the settings."""

    root: Path
    urls: Path
    logs: Path
    images: Path
    schedules: Path
    profiles_table: Path
    ignored_table: Path
    checkpoint: Path
    tools: Path

    @classmethod
    def of(cls, root: Path, structure: Mapping[str, str] | None = None) -> "OutputPaths":
        """Paths under `root`, with `output_structure` names over the defaults."""
        names = {**OUTPUT_STRUCTURE, **(structure or {})}
        root = root.absolute()
        return cls(
            root=root,
            urls=root / names["urls_folder"],
            logs=root / names["logs_folder"],
            images=root / names["images_folder"],
            schedules=root / names["schedules_folder"],
            profiles_table=root / names["profiles_table"],
            ignored_table=root / names["ignored_table"],
            checkpoint=root / names["inner_checkpoint_file"],
            tools=root / names["tools_folder"],
        )

    @property
    def partitions(self) -> Path:
        """server_name, partition_id, rows: one row a batch."""
        return self.urls / "partitions.parquet"

    @property
    def rejected(self) -> Path:
        """Input rows that cannot be fetched, as given, with the reason."""
        return self.urls / "rejected.parquet"

    @property
    def duplicates(self) -> Path:
        """uuid, uuid_main, source_id: rows whose URL another row has too."""
        return self.urls / "duplicates.parquet"

    @property
    def source(self) -> Path:
        """What was partitioned: input files with size and hash, and what fixes a folder."""
        return self.urls / "source.json"

    @property
    def generations(self) -> Path:
        """One folder for each change of the list since: see lists.generations."""
        return self.urls / "generations"

    @property
    def tombstones(self) -> Path:
        """Rows that the list has no more; derived."""
        return self.urls / "tombstones.parquet"

    @property
    def previous_tombstones(self) -> Path:
        """Rows that `previous_output` has, and this list has not."""
        return self.urls / "previous.parquet"

    @property
    def again(self) -> Path:
        """What finished rows this run asks for again."""
        return self.root / "again.json"

    @property
    def left(self) -> Path:
        """The live state that the wave loop asks; derived."""
        return self.root / "left.json"

    @property
    def ledger(self) -> Path:
        """One state for every input row; derived by verify."""
        return self.root / "ledger.parquet"

    @property
    def verified(self) -> Path:
        """What verify counted of each batch, and how its files looked then; derived."""
        return self.root / "verified.parquet"

    @property
    def summary(self) -> Path:
        """The ledger's counts, for people and for the report; derived by verify."""
        return self.root / "summary.json"

    @property
    def credits(self) -> Path:
        """Whom each image is owed to; derived by the report."""
        return self.root / "CREDITS.parquet"

    @property
    def credits_csv(self) -> Path:
        """The same as text."""
        return self.root / "CREDITS.csv"

    @property
    def credited_datasets(self) -> Path:
        """Images by the dataset of the list that they belong to."""
        return self.root / "CREDITS-datasets.csv"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.root / "report.html"

    @property
    def robots(self) -> Path:
        """One robots.txt per authority, with its time and status."""
        return self.root / "robots"

    @property
    def address_book(self) -> Path:
        """Host -> address, for `politeness.group_by: address`."""
        return self.root / "addresses.json"

    @property
    def run_lock(self) -> Path:
        """Held by the process that runs the workflow."""
        return self.root / "run.lock"

    @property
    def writer_lock(self) -> Path:
        """Held by the job that writes images (a wave, profile, verify or a tool)."""
        return self.root / "writer.lock"

    @property
    def configs(self) -> Path:
        """The effective config of every run so far, named by its content."""
        return self.root / "configs"

    def wave(self, wave: int) -> Path:
        """Folder of one wave's plan, schedule, progress and what it learned."""
        return self.schedules / str(wave)

    def batch_urls(self, batch: Batch) -> Path:
        """The batch's rows as partitioned."""
        return self.urls / batch.folder / "urls.parquet"

    def batch_images(self, batch: Batch) -> Path:
        """The batch's folder of parts, shards and tables."""
        return self.images / batch.folder
