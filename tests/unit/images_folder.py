"""An output folder of real, small images, as waves leave it: what tools are tested on."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from distributed_downloader.codec.images import encode
from distributed_downloader.durable import write_json, write_parquet
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import Encoded, Fetched, Row
from distributed_downloader.settings import Settings
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.parts import PartNames, PartWriter
from distributed_downloader.tables import DUPLICATES, PARTITIONS, URLS
from distributed_downloader.tools.job import Job
from distributed_downloader.tools.steps import run_filter, run_runner, run_scheduler
from tests.unit.conftest import make_settings

ONE = Batch("a.museum.test", 0)
TWO = Batch("b.garden.test", 0)


def picture(seed: int, size: tuple[int, int] = (60, 40)) -> bytes:
    """A JPEG that no other seed has."""
    image = Image.new("RGB", size, (seed * 37 % 256, seed * 59 % 256, seed * 83 % 256))
    image.putpixel((seed % size[0], 0), (255, 255, 255))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@dataclass
class ImagesFolder:
    """Batches of images; a row's uuid says its batch's server and its number."""

    root: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    rows: dict[Batch, list[str]] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return make_settings(
            self.root, **{"downloader_parameters": {"image_size": 0}, **self.overrides}
        )

    @property
    def paths(self) -> OutputPaths:
        return self.settings.paths

    def set(self, **parameters: Any) -> None:
        """Settings of tools_parameters."""
        self.overrides.setdefault("tools_parameters", {}).update(parameters)

    def add(self, batch: Batch, bodies: Sequence[bytes], wave: int = 0) -> list[str]:
        """Store these images and consolidate; their uuids."""
        known = self.rows.setdefault(batch, [])
        uuids = [f"{batch.server_name[0]}-{len(known) + n}" for n in range(len(bodies))]
        known += uuids
        self.store(batch, dict(zip(uuids, bodies, strict=True)), wave)
        self._write_urls()
        self.consolidate(batch)
        return uuids

    def store(self, batch: Batch, bodies: Mapping[str, bytes], wave: int = 0) -> None:
        """Commit a part of these images."""
        writer = PartWriter(batch, PartNames(wave, 0))
        for uuid, body in bodies.items():
            encoded = encode(body, self.settings.images)
            assert isinstance(encoded, Encoded)
            row = Row(uuid, f"source of {uuid}", f"http://{uuid}", batch.server_name, batch)
            writer.add_image(row, Fetched(b"", 200, uuid, "image/jpeg", None, None, 0.1), encoded)
        writer.commit(self.paths.batch_images(batch), lambda: None)

    def consolidate(self, batch: Batch) -> None:
        rows = len(self.rows[batch])
        consolidate(batch, self.paths, rows, retries_waves=3, allowed=lambda: None)

    def _write_urls(self) -> None:
        for batch, uuids in self.rows.items():
            known = pl.DataFrame({"uuid": uuids, "server": [batch.server_name] * len(uuids)})
            rest = [pl.lit(None, pl.String).alias(n) for n in URLS if n not in known.columns]
            write_parquet(
                self.paths.batch_urls(batch), known.with_columns(rest).select(URLS.names())
            )
        sizes = [(b.server_name, b.partition_id, len(rows)) for b, rows in self.rows.items()]
        write_parquet(self.paths.partitions, pl.DataFrame(sizes, PARTITIONS, orient="row"))
        write_parquet(self.paths.duplicates, DUPLICATES.to_frame())
        total = sum(map(len, self.rows.values()))
        write_json(self.paths.source, {"counts": {"rows": total}})

    def images(self, batch: Batch) -> pl.DataFrame:
        """The images there are."""
        return BatchFiles.of(self.paths.batch_images(batch)).images().collect()

    def uuids(self) -> list[str]:
        return sorted(uuid for batch in self.rows for uuid in self.images(batch)["uuid"])

    def run(self, tool: str, job: Job | None = None) -> dict[str, Any] | None:
        """All three steps; what the job came to, None if none was due."""
        run_filter(self.settings, tool)
        if not run_scheduler(self.settings, tool)["is_due"]:
            return None
        return run_runner(self.settings, tool, job or Job())

    def marks(self, tool: str) -> list[str]:
        """Lines of the tool's verification tables, without their headers."""
        files = (self.paths.tools / tool / "verification").glob("*.csv")
        return [line for file in files for line in file.read_text().splitlines()[1:]]
