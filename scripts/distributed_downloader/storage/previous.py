"""Images of an earlier run's folder, copied into this one's batches: no request, no new decoding.

Batch after batch, in parts as if they had been fetched (wave -2): what a kill leaves out is copied
when the same command goes on. What is missing or damaged there is told, and such rows are fetched:
an image whose bytes have not the hash that their table says, a shard, a table with all its batch.
An image keeps its times, so that `revalidate` knows its age.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from distributed_downloader.errors import FolderError, StorageError
from distributed_downloader.lists.generations import Generation, rows_by_batch
from distributed_downloader.lists.placed import Hashes
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import Encoded, Fetched, Row, State
from distributed_downloader.settings import Settings
from distributed_downloader.storage.batch_files import (
    ERRORS_NAME,
    BatchFiles,
    read_states,
    without_gone,
)
from distributed_downloader.storage.damage import damaged_tables
from distributed_downloader.storage.image_files import ImageFile
from distributed_downloader.storage.parts import COPIED_WAVE, PartNames, PartWriter
from distributed_downloader.tables import EXPECTED_HASH, SUCCESSES
from distributed_downloader.wording import count

CREDIT = ("license", "source", "title")

_log = logging.getLogger(__name__)


def copy_images(settings: Settings, previous: OutputPaths, allowed: Callable[[], None]) -> int:
    """Copy what the batches here lack and `previous` has; how many images. Raises StorageError."""
    try:
        return _copy_images(settings, previous, allowed)
    except OSError as error:
        raise StorageError(
            f"Cannot read {error.filename or previous.root}: {error.strerror or error}. "
            "Mend the file system and run the same command again: nothing is lost."
        ) from error


def _copy_images(settings: Settings, previous: OutputPaths, allowed: Callable[[], None]) -> int:
    catalogue = _Catalogue(previous, settings.columns["hash_kind"])
    names, copied = PartNames(COPIED_WAVE, 0), 0
    for batch in rows_by_batch(settings.paths):
        rows = _lacking(batch, settings)
        writer = PartWriter(batch, names, keep_original=settings.images.keep_original)
        folder = settings.paths.batch_images(batch)
        lost: Counter[Path] = Counter()
        for row, image, place in catalogue.images_for(rows):
            encoded = _read(place, image)
            if encoded is None:
                lost[place] += 1
                continue
            writer.add_image(_row(batch, row), _as_fetched(image), encoded, _times(image))
            copied += 1
            if writer.bytes >= settings.flush.max_bytes:
                writer.commit(folder, allowed)
        writer.commit(folder, allowed)
        for place, images in lost.items():
            told = "%s is missing or damaged: %s fetched anew"
            _log.warning(told, place, count(images, "image"))
    return copied


def _lacking(batch: Batch, settings: Settings) -> pl.DataFrame:
    """The rows of a batch that have no image, and none that was removed."""
    paths = settings.paths
    rows = pl.read_parquet(paths.batch_urls(batch), hive_partitioning=False)
    states = read_states(batch, paths, settings.retries_waves)
    has_one = states.filter(pl.col("state").is_in([State.OK.value, State.REMOVED.value]))
    rows = without_gone(rows, batch, paths).join(has_one, on="uuid", how="anti")
    if EXPECTED_HASH not in rows.columns:
        rows = rows.with_columns(pl.lit(None, pl.String).alias(EXPECTED_HASH))
    columns = ["uuid", "source_id", "identifier", "server", *CREDIT, EXPECTED_HASH]
    return rows.select(columns)


class _Catalogue:
    """Which batch of an earlier folder has the image of a URL; one server's in memory at a time."""

    def __init__(self, paths: OutputPaths, hash_kind: str) -> None:
        self._paths = paths
        # a hash that the list promises, and that cannot be looked up, needs the bytes as received
        is_md5 = pl.lit(hash_kind == "md5")
        is_right = pl.col(EXPECTED_HASH).str.to_lowercase() == pl.col("hashsum_original")
        self._is_promised = pl.col(EXPECTED_HASH).is_null() | (is_md5 & is_right)
        self._told: set[Batch] = set()  # batches whose images cannot be taken over
        self._batches: dict[str, list[Batch]] = {}
        for server_name, number, _, _ in Generation.of(paths).partitions().iter_rows():
            batch = Batch(server_name, number)
            for server in self._servers(batch):
                self._batches.setdefault(server, []).append(batch)
        self._server: str | None = None
        self._hashes: Hashes = np.empty(0, np.uint64)
        self._numbers: Hashes = np.empty(0, np.uint64)

    def images_for(
        self, rows: pl.DataFrame
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any], Path]]:
        """Each row that has an image there, with the image's row and its file."""
        for (server,), asked in rows.group_by("server", maintain_order=True):
            mine = asked
            for batch in self._batches_with(str(server), mine["identifier"]):
                folder, images = self._paths.batch_images(batch), self._images(batch)
                both = mine.join(images, on="identifier", how="inner", suffix="_there")
                both = both.unique("uuid", keep="first", maintain_order=True)
                both = both.filter(self._is_promised)
                mine = mine.join(both, on="uuid", how="anti")
                for found in both.sort("file", "index").iter_rows(named=True):
                    yield found, found, folder / found["file"]

    def _servers(self, batch: Batch) -> list[str]:
        if not batch.is_mixed:
            return [batch.server_name]
        return self._images(batch, ["server"])["server"].unique().to_list()

    def _images(self, batch: Batch, columns: Sequence[str] = tuple(SUCCESSES)) -> pl.DataFrame:
        """The batch's images; none if a table that says so cannot be believed."""
        folder = self._paths.batch_images(batch)
        damages = [damage for damage in damaged_tables(folder) if damage.path.name != ERRORS_NAME]
        try:
            if not damages:
                return BatchFiles.of(folder).images().select(columns).collect()
            reason = str(damages[0])
        except (FolderError, FileNotFoundError, pl.exceptions.PolarsError) as error:
            reason = " ".join(str(error).split())
        if batch not in self._told:
            self._told.add(batch)
            _log.warning("the images of %s are fetched anew: %s", folder, reason)
        return pl.DataFrame(schema=SUCCESSES).select(columns)

    def _batches_with(self, server: str, urls: pl.Series) -> list[Batch]:
        batches = self._batches.get(server, [])
        if server != self._server:
            self._index(server, batches)
        hashes = urls.hash().to_numpy()
        first = np.searchsorted(self._hashes, hashes, side="left")
        last = np.searchsorted(self._hashes, hashes, side="right")
        found = {int(n) for a, b in zip(first, last, strict=True) for n in self._numbers[a:b]}
        return [batches[number] for number in sorted(found)]

    def _index(self, server: str, batches: list[Batch]) -> None:
        """Hashes of the URLs that have an image, sorted, and the number of their batch."""
        hashes, numbers = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        for number, batch in enumerate(batches):
            found = self._images(batch, ["identifier"])["identifier"].hash().to_numpy()
            hashes.append(found)
            numbers.append(np.full(len(found), number, np.uint64))
        self._hashes, self._numbers = np.concatenate(hashes), np.concatenate(numbers)
        order = np.argsort(self._hashes, kind="stable")
        self._hashes, self._numbers = self._hashes[order], self._numbers[order]
        self._server = server


def _read(file: Path, image: dict[str, Any]) -> Encoded | None:
    """The image's bytes; None if they are not what the table says, or not there."""
    try:
        with ImageFile(file) as source:
            index = image["index"]
            if not (index < len(source) and _is_within(source, index)):
                return None
            data = source.read(index)
            original = source.read(index, "original") or None
    except (FolderError, FileNotFoundError):
        return None
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != image["hashsum_resized"]:
        return None
    return Encoded(
        data=data,
        original=original,
        hashsum_original=image["hashsum_original"],
        hashsum_resized=image["hashsum_resized"],
        original_size=tuple(image["original_size"]),
        resized_size=tuple(image["resized_size"]),
        exif=image["exif"],
        warnings=image.get("warnings"),
    )


def _is_within(source: ImageFile, index: int) -> bool:
    return all(source.whole_items(kind)[index] for kind in ("data", "original"))


def _row(batch: Batch, values: dict[str, Any]) -> Row:
    return Row(
        uuid=values["uuid"],
        source_id=values["source_id"],
        identifier=values["identifier"],
        server=values["server"],
        batch=batch,
        meta={name: values[name] for name in CREDIT},
    )


def _as_fetched(image: dict[str, Any]) -> Fetched:
    said = {name: image[name] for name in ("final_url", "content_type", "etag", "last_modified")}
    return Fetched(body=b"", status=200, latency_s=0.0, **said)


def _times(image: dict[str, Any]) -> dict[str, Any]:
    return {name: image[name] for name in ("fetched_at", "validated_at")}
