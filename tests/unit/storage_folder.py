"""Rows, images and failures by the handful, for the tests of what is stored."""

import hashlib
from pathlib import Path

import h5py
import polars as pl

from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import Encoded, ErrorClass, Failed, Fetched, Row
from distributed_downloader.storage.parts import PartNames, PartWriter

BATCH = Batch("images.example.org:8080", 3)
START = 1_700_000_000.0


class Killed(BaseException):
    """What a crash point raises when no process is to die for a test."""


class Clock:
    """Moves on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        self.now += 1
        return self.now


def row(number, *, batch=BATCH, **changes):
    return Row(
        **{
            "uuid": f"row-{number}",
            "source_id": str(number),
            "identifier": f"http://images.example.org:8080/{number}.jpg",
            "server": batch.server_name,
            "batch": batch,
            "meta": {"license": "CC0", "source": "a museum", "title": f"No. {number}"},
            **changes,
        }
    )


def image_bytes(number):
    """What is stored of row `number`: some bytes that no other row has."""
    return (f"image {number} " * (1 + number % 7)).encode()


def encoded(data, original=None):
    received, stored = (hashlib.md5(body).hexdigest() for body in (original or data, data))
    return Encoded(data, original, received, stored, (30, 40), (3, 4), None)


def fetched(number):
    return Fetched(b"", 200, f"http://elsewhere.org/{number}", "image/jpeg", '"e"', None, 0.1)


def failed(error_class=ErrorClass.SERVER_ERROR, *, retryable=True, **changes):
    return Failed(error_class, 503, f"it says {error_class}", retryable, **changes)


NOT_FOUND = Failed(ErrorClass.NOT_FOUND, 404, "not found", retryable=False)
ELSEWHERE = failed(ErrorClass.REDIRECT_ELSEWHERE, final_url="http://cdn.example.net/x")


def allowed():
    """Any run may write."""


class Folder:
    """An output folder that parts are committed to."""

    def __init__(self, root: Path, batch: Batch = BATCH) -> None:
        self.paths = OutputPaths.of(root)
        self.batch = batch
        self.clock = Clock()

    @property
    def images(self) -> Path:
        return self.paths.batch_images(self.batch)

    def writer(self, wave=0, rank=0, **options):
        return PartWriter(self.batch, PartNames(wave, rank), clock=self.clock, **options)

    def commit(self, outcomes, wave=0, rank=0, **options):
        """Commit a part: {number: "ok" | Failed, or (Failed, requests, row)}."""
        writer = self.writer(wave, rank, **options)
        self.fill(writer, outcomes, **options)
        return writer.commit(self.images, allowed)

    def fill(self, writer, outcomes, **options):
        """Have a writer take outcomes, as `commit` has them."""
        for number, outcome in outcomes.items():
            if outcome == "ok":
                data = image_bytes(number)
                original = b"original of " + data if options.get("keep_original") else None
                writer.add_image(row(number), fetched(number), encoded(data, original))
            elif isinstance(outcome, tuple):
                writer.add_error(outcome[2], outcome[0], outcome[1])
            else:
                writer.add_error(row(number), outcome)

    def stored(self):
        """{uuid: bytes} as successes.parquet says; read by h5py, not by our reader."""
        table = pl.read_parquet(self.images / "successes.parquet", hive_partitioning=False)
        assert table["uuid"].is_unique().all()
        found = {}
        for uuid, file, index in table.select("uuid", "file", "index").iter_rows():
            with h5py.File(self.images / file, "r") as shard:
                start, end = shard["offsets"][index : index + 2]
                found[uuid] = shard["data"][start:end].tobytes()
                assert shard["uuid"][index].decode() == uuid
        return found
