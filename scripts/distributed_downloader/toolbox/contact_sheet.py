"""A JPEG for each server with thumbnails of some of its images: `sheets/<server>.jpg`.

The sample is fair, and the same every time: the images whose MD5 comes first, no two of the same
bytes.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.durable import whole_file
from distributed_downloader.exports.contact_sheet import contact_sheet, thumbnail
from distributed_downloader.exports.targets import file_stem
from distributed_downloader.paths import Batch
from distributed_downloader.tools.filters import PICKED, PythonFilterToolBase
from distributed_downloader.tools.partition import StoredImage
from distributed_downloader.tools.registry import FilterRegister, RunnerRegister, SchedulerRegister
from distributed_downloader.tools.runners import ImageRunner
from distributed_downloader.tools.schedulers import DefaultScheduler

log = logging.getLogger(__name__)

NAME = "contact_sheet"
_RANK = ("server", "hashsum_original")
_THUMBNAILS = pl.Schema(
    {"uuid": pl.String, **dict.fromkeys(_RANK, pl.String), "thumbnail": pl.Binary}
)

SchedulerRegister(NAME)(DefaultScheduler)


@FilterRegister(NAME)
class SampleOfEachServer(PythonFilterToolBase):
    """Picks at most `sheet_images` images of each server, over all its partitions."""

    def run(self) -> None:
        """Write the filter table."""
        sample = self._first([self._first([self._candidates(b)]) for b in self.batches()])
        self.save_filter(sample.select(*PICKED))

    def _candidates(self, batch: Batch) -> pl.DataFrame:
        return self.images(batch).select(*PICKED, *_RANK).collect()

    def _first(self, tables: list[pl.DataFrame]) -> pl.DataFrame:
        if not tables:
            return pl.DataFrame(schema=dict.fromkeys((*PICKED, *_RANK), pl.String))
        ordered = pl.concat(tables).sort(*_RANK, "uuid").unique(_RANK, maintain_order=True)
        return ordered.group_by("server", maintain_order=True).head(
            int(self.parameters["sheet_images"])
        )


@RunnerRegister(NAME)
class ContactSheets(ImageRunner):
    """Makes thumbnails, and then a sheet of each server's."""

    @property
    def results_place(self) -> str:
        """The sheets."""
        return str(self.folder / "sheets")

    def process_image(self, image: StoredImage) -> Mapping[str, Any]:
        """Its thumbnail, and where that belongs."""
        place = {name: image.row[name] for name in _RANK}
        return {**place, "thumbnail": thumbnail(image.image)}

    def finish(self, batches: list[Batch]) -> None:
        """Write the sheets, in place of those of an earlier run."""
        folder = Path(self.results_place)
        files = [self.table_file(batch) for batch in batches]
        tables = [pl.read_parquet(file, hive_partitioning=False) for file in files]
        thumbnails = pl.concat([_THUMBNAILS.to_frame(), *tables], how="diagonal").sort(*_RANK)
        written = set()
        for (server,), rows in thumbnails.group_by("server", maintain_order=True):
            title = f"{server}: {len(rows)} images"
            path = folder / f"{file_stem(str(server))}.jpg"
            with whole_file(path) as beside:
                beside.write_bytes(contact_sheet(title, rows["thumbnail"].to_list()))
            written.add(path)
        for old in set(folder.glob("*.jpg")) - written:
            old.unlink()
        log.info("%s: %d sheets in %s", NAME, len(written), folder)
