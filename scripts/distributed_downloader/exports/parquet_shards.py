"""Parquet shards: the images in the binary column `image`, for polars and Hugging Face datasets.

For the latter, `dataset.cast_column("image", datasets.Image())` has them decoded.

Written by pyarrow, which takes the bytes from the buffer as they are; polars writes columns of
this size several times slower.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distributed_downloader.exports.blocks import Block
from distributed_downloader.exports.records import RECORD
from distributed_downloader.exports.targets import Sink

IMAGE = "image"
ROW_GROUP_BYTES = 8 << 20
PAGE_BYTES = 256 << 10


def write_parquet_shard(sink: Sink, blocks: Iterable[Block]) -> int:
    """Write a whole parquet file, a row group for each block with records; how many images."""
    images = 0
    writer: Any = None
    for block in blocks:
        table = arrow_table(block)
        if writer is None:
            writer = pq.ParquetWriter(sink.path or sink.file, table.schema, **_OPTIONS)
        writer.write_table(table, row_group_size=len(table))
        images += len(table)
        sink.begin_write_back()
    if writer is not None:
        writer.close()
    return images


# Images are compressed already, and neither repeat nor have an order.
_OPTIONS: dict[str, Any] = {
    "compression": {IMAGE: "NONE", **dict.fromkeys(RECORD, "ZSTD")},
    "use_dictionary": list(RECORD),
    "write_statistics": list(RECORD),
    "data_page_size": PAGE_BYTES,
}


def arrow_table(block: Block) -> Any:
    """A block as an arrow table: the encoded images, and the record of each."""
    table = block.rows.select(RECORD).to_arrow()
    offsets = pa.py_buffer(block.offsets.astype(np.int32))
    body = pa.py_buffer(block.data)
    images = pa.Array.from_buffers(pa.binary(), len(table), [None, offsets, body])
    return table.add_column(0, IMAGE, images)
