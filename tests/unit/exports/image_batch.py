"""A stored partition with real, small images: what exports are made of."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from distributed_downloader.exports.shards import PartitionImages
from distributed_downloader.paths import Batch
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.storage.consolidation import consolidate
from tests.unit.storage_folder import BATCH, Folder, allowed, encoded, fetched, row

FORMATS = ("JPEG", "PNG", "WEBP", "JPEG")


def picture(number: int, form: str = "JPEG") -> bytes:
    """Some noise that no other number has."""
    noise = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, form)
    return out.getvalue()


def store(
    root: Path, numbers: range, *, batch: Batch = BATCH, **changes: object
) -> dict[str, bytes]:
    """Commit images of all formats, in two parts, the first consolidated; {uuid: bytes}."""
    folder, stored = Folder(root, batch), {}
    middle = numbers[len(numbers) // 2]
    for wave, some in enumerate((range(numbers.start, middle), range(middle, numbers.stop))):
        writer = folder.writer(wave)
        for number in some:
            body = picture(number, FORMATS[number % len(FORMATS)])
            told = row(number, batch=batch, **changes)
            writer.add_image(told, fetched(number), encoded(body))
            stored[told.uuid] = body
        writer.commit(folder.images, allowed)
        if wave == 0:
            consolidate(batch, folder.paths, len(numbers), retries_waves=3, allowed=allowed)
    return stored


def partition(root: Path, batch: Batch = BATCH) -> PartitionImages:
    """All images of the partition."""
    folder = Folder(root, batch).images
    rows = BatchFiles.of(folder).images().collect()
    return PartitionImages(batch, folder, rows, lambda images: None)
