"""Stored images with a longest side of `new_resize_size` pixels at most; none is enlarged.

They become a folder of the same shape, `tools/resize/images`, which `Dataset("out/tools/resize")`
reads; or, with `resize_in_place`, they take the place of the stored ones. Either way a slice of a
partition's images is written as a new shard, then the table that names it: a kill costs a slice at
most, and shards that no table names go.

Bytes that a stranger made are decoded in processes of their own, as in the download; those that our
encoder made are decoded here, which is faster.
"""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import polars as pl

from distributed_downloader.codec.images import encode
from distributed_downloader.codec.processes import Codec
from distributed_downloader.durable import crash_point, remove_orphans
from distributed_downloader.errors import ToolError
from distributed_downloader.paths import Batch
from distributed_downloader.records import Encoded, Failed
from distributed_downloader.settings import Images
from distributed_downloader.storage.batch_files import SUCCESSES_NAME
from distributed_downloader.storage.batch_tables import read_metadata, write_table
from distributed_downloader.storage.consolidation import clear_away
from distributed_downloader.storage.parts import list_parts
from distributed_downloader.storage.shards import new_shard
from distributed_downloader.tables import SUCCESSES
from distributed_downloader.tools.filters import FilterRegister, PythonFilterToolBase
from distributed_downloader.tools.partition import Interrupted, Partition, StoredImage
from distributed_downloader.tools.runners import MPIRunnerTool, RunnerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler, SchedulerRegister
from distributed_downloader.tools.threads import mapped
from distributed_downloader.wording import count

log = logging.getLogger(__name__)

NAME = "resize"
SIZE_KEY = "new_resize_size"  # in a table's metadata: what its images were made with
PLACES = pl.Schema(
    (name, SUCCESSES[name]) for name in ("uuid", "hashsum_resized", "resized_size", "file", "index")
)
_SAME = ["uuid", "fetched_at"]  # the same image of the same download


@FilterRegister(NAME)
class EveryImage(PythonFilterToolBase):
    """Picks every image."""


@SchedulerRegister(NAME)
class Scheduler(DefaultScheduler):
    """As every tool."""


@dataclass(frozen=True, slots=True)
class Resized:
    """One image, made smaller."""

    uuid: str
    encoded: Encoded
    original: bytes  # carried along where originals are kept


@RunnerRegister(NAME)
class Resize(MPIRunnerTool):
    """Makes a partition's images smaller, slice after slice."""

    depends_on: ClassVar[tuple[str, ...]] = (SIZE_KEY, "resize_in_place")

    @property
    def in_place(self) -> bool:
        """Whether the stored images are replaced."""
        return bool(self.parameters["resize_in_place"])

    @property
    def images_folder(self) -> Path:
        """Where the resized images lie."""
        return self.paths.images if self.in_place else self.folder / "images"

    @property
    def results_place(self) -> str:
        """The folder of images."""
        return str(self.images_folder)

    @property
    def wanted(self) -> Images:
        """What becomes of an image."""
        size = self.parameters[SIZE_KEY]
        return replace(self.settings.images, image_size=size, mode="longest_side")

    @cached_property
    def codec(self) -> Codec:
        """What decodes bytes of strangers for this rank."""
        return Codec(self.wanted, self.parameters["cpu_per_worker"])

    def close(self) -> None:
        """End the decoders."""
        self.codec.close()

    def process(self, partition: Partition) -> int:
        """Resize what is not resized yet, and forget what is not there any more."""
        folder = self.images_folder / partition.batch.folder
        folder.mkdir(parents=True, exist_ok=True)
        if self.in_place and list_parts(folder):
            self.consolidate(partition.batch)  # else a part would bring its large image back
        remove_orphans(folder)
        made = self._made(partition, folder)
        todo = partition.rows.join(made, on=_SAME, how="anti", maintain_order="left")
        table, broken = partition.rows if self.in_place else made, list[str]()
        self._write(folder, table, None)
        for slice_ in self._slices(partition, todo, broken):
            places, next_shard = self._store(partition.batch, folder, slice_)
            table = _updated(table, todo, places)
            self._write(folder, table, next_shard)
        clear_away(folder)
        if broken:
            raise ToolError(
                f"{count(len(broken), 'image')} cannot be resized ({broken[0]}); the others are. "
                "The tool image_verification finds and removes such images."
            )
        return len(partition.rows)

    def finish(self, batches: list[Batch]) -> None:
        """Forget partitions that have no image any more."""
        if self.in_place:
            return
        kept = {self.images_folder / batch.folder for batch in batches}
        for folder in self.images_folder.glob("server_name=*/partition_id=*"):
            if folder not in kept:
                shutil.rmtree(folder)

    def _made(self, partition: Partition, folder: Path) -> pl.DataFrame:
        """The rows of images that need nothing more."""
        size, file = self.parameters[SIZE_KEY], folder / SUCCESSES_NAME
        if self.in_place:
            return partition.rows.filter(pl.col("resized_size").list.max() <= size)
        if not file.exists() or pl.read_parquet_metadata(file).get(SIZE_KEY) != str(size):
            return SUCCESSES.to_frame()
        table = pl.read_parquet(file, hive_partitioning=False).select(SUCCESSES.names())
        return table.join(partition.rows, on=_SAME, how="semi", maintain_order="left")

    def _slices(
        self, partition: Partition, todo: pl.DataFrame, broken: list[str]
    ) -> Iterator[list[Resized]]:
        """Resized images, `flush.max_bytes` of them at a time; also when the job must end."""
        held: list[Resized] = []
        held_bytes = 0
        try:
            for image in self._resized(partition, todo):
                if isinstance(image, str):
                    broken.append(image)
                    continue
                held.append(image)
                held_bytes += len(image.encoded.data) + len(image.original)
                if held_bytes >= self.settings.flush.max_bytes:
                    yield held
                    held, held_bytes = [], 0
        except Interrupted:
            if held:
                yield held
            raise
        if held:
            yield held

    def _resized(self, partition: Partition, todo: pl.DataFrame) -> Iterator[Resized | str]:
        """Each image made smaller, or why it cannot be."""
        keeps_original = self.in_place and self.settings.images.keep_original
        wanted, codec = self.wanted, self.codec

        def resized(image: StoredImage) -> Resized | str:
            is_ours = image.is_of_our_making
            encoded = encode(image.bytes, wanted) if is_ours else codec.encode_here(image.bytes)
            if isinstance(encoded, Failed):
                log.error("%s cannot be resized: %s", image.uuid, encoded.error_msg)
                return f"{image.uuid}: {encoded.error_msg}"
            return Resized(image.uuid, encoded, image.original if keeps_original else b"")

        images = partition.images(todo, with_originals=keeps_original)
        return mapped(resized, images, self.parameters["cpu_per_worker"])

    def _store(self, batch: Batch, folder: Path, images: list[Resized]) -> tuple[pl.DataFrame, int]:
        """Write a shard: where each image went (PLACES), and the number of the next shard."""
        bodies = [(image.uuid, image.encoded.data, image.original) for image in images]
        crash_point("resize:before_shard")
        name, next_shard = new_shard(batch, folder, bodies, self.job.allowed)
        crash_point("resize:after_shard")
        encoded = [image.encoded for image in images]
        values = {
            "uuid": [image.uuid for image in images],
            "hashsum_resized": [one.hashsum_resized for one in encoded],
            "resized_size": [list(one.resized_size) for one in encoded],
            "file": [name] * len(images),
            "index": range(len(images)),
        }
        return pl.DataFrame(values, PLACES), next_shard

    def _write(self, folder: Path, table: pl.DataFrame, next_shard: int | None) -> None:
        """Replace the table, unless it says this already (`next_shard` None: no shard is new)."""
        file = folder / SUCCESSES_NAME
        known = read_metadata(file)
        metadata = {**known, SIZE_KEY: str(self.parameters[SIZE_KEY])}
        if next_shard is not None:
            metadata["next_shard"] = str(next_shard)
        elif self.in_place or (metadata == known and len(table) == _rows_of(file)):
            return
        write_table(file, table.lazy(), metadata, self.job.allowed)
        crash_point("resize:after_table")


def _updated(table: pl.DataFrame, todo: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """The table with these images at their new places; those that it lacked come to its end."""
    missing = todo.join(table, on="uuid", how="anti", maintain_order="left")
    missing = missing.join(places, on="uuid", how="semi", maintain_order="left")
    whole = pl.concat([table, missing])
    joined = whole.join(places, on="uuid", how="left", suffix="_new", maintain_order="left")
    new = [pl.coalesce(f"{name}_new", name).alias(name) for name in PLACES if name != "uuid"]
    return joined.with_columns(new).select(SUCCESSES.names())


def _rows_of(file: Path) -> int:
    return int(pl.scan_parquet(file).select(pl.len()).collect().item()) if file.exists() else -1
