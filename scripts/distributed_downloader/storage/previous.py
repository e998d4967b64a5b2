"""Images of an earlier run's folder, copied into this one's batches: no request, no new decoding.

Batch after batch, in parts as if they had been fetched (wave -2): what a kill leaves out is copied
when the same command goes on. Bytes whose hash is not what their table says stay where they are;
such a row is fetched. An image keeps its times, so that `revalidate` knows its age.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from distributed_downloader.lists.generations import Generation, rows_by_batch
from distributed_downloader.lists.placed import Hashes
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import Encoded, Fetched, Row, State
from distributed_downloader.settings import Settings
from distributed_downloader.storage.batch_files import BatchFiles, read_states, without_gone
from distributed_downloader.storage.image_files import ImageFile
from distributed_downloader.storage.parts import COPIED_WAVE, PartNames, PartWriter
from distributed_downloader.tables import EXPECTED_HASH

CREDIT = ("license", "source", "title")

_log = logging.getLogger(__name__)


def copy_images(settings: Settings, previous: OutputPaths, allowed: Callable[[], None]) -> int:
    """Copy what the batches here lack and `previous` has; how many images. Raises StorageError."""
    catalogue = _Catalogue(previous, settings.columns["hash_kind"])
    names, copied = PartNames(COPIED_WAVE, 0), 0
    for batch in rows_by_batch(settings.paths):
        rows = _lacking(batch, settings)
        writer = PartWriter(batch, names, keep_original=settings.images.keep_original)
        folder = settings.paths.batch_images(batch)
        for row, image, place in catalogue.images_for(rows):
            encoded = _read(place, image)
            if encoded is None:
                _log.warning("%s holds other bytes than its table says: fetched", place)
                continue
            writer.add_image(_row(batch, row), _as_fetched(image), encoded, _times(image))
            copied += 1
            if writer.bytes >= settings.flush.max_bytes:
                writer.commit(folder, allowed)
        writer.commit(folder, allowed)
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
                folder = self._paths.batch_images(batch)
                images = BatchFiles.of(folder).images().collect()
                both = mine.join(images, on="identifier", how="inner", suffix="_there")
                both = both.unique("uuid", keep="first", maintain_order=True)
                both = both.filter(self._is_promised)
                mine = mine.join(both, on="uuid", how="anti")
                for found in both.sort("file", "index").iter_rows(named=True):
                    yield found, found, folder / found["file"]

    def _servers(self, batch: Batch) -> list[str]:
        if not batch.is_mixed:
            return [batch.server_name]
        images = BatchFiles.of(self._paths.batch_images(batch)).images()
        return images.select(pl.col("server").unique()).collect()["server"].to_list()

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
            images = BatchFiles.of(self._paths.batch_images(batch)).images()
            found = images.select(pl.col("identifier").hash()).collect()["identifier"].to_numpy()
            hashes.append(found)
            numbers.append(np.full(len(found), number, np.uint64))
        self._hashes, self._numbers = np.concatenate(hashes), np.concatenate(numbers)
        order = np.argsort(self._hashes, kind="stable")
        self._hashes, self._numbers = self._hashes[order], self._numbers[order]
        self._server = server


def _read(file: Path, image: dict[str, Any]) -> Encoded | None:
    """The image's bytes; None if they are not what the table says."""
    with ImageFile(file) as source:
        data = source.read(image["index"])
        original = source.read(image["index"], "original") or None
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
