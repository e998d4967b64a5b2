"""What the exports take of the time of `cp` of the same bytes, in turns, median of five.

    python tests/benchmarks/bench_exports.py [mean bytes of an image] [megabytes]

`cp` copies the dataset's images folder (for export_files: the exported folder, file by file) and is
followed by `sync`, as an export's file is whole only when it is on the disk. One process exports.
"""

import gc
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from bench_dataset import BATCHES, fill

from distributed_downloader.exports.blocks import sizes_of
from distributed_downloader.exports.image_folders import write_folder
from distributed_downloader.exports.parquet_shards import ROW_GROUP_BYTES, write_parquet_shard
from distributed_downloader.exports.shards import (
    Notes,
    PartitionImages,
    ShardFormat,
    write_shards,
)
from distributed_downloader.exports.tar_shards import write_tar
from distributed_downloader.exports.targets import Target, folder_name
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.storage.batch_files import BatchFiles

ROUNDS = 5
SHARD_BYTES = 256 << 20
FORMATS = {
    "export_webdataset": ShardFormat("tar", write_tar),
    "export_parquet": ShardFormat("parquet", write_parquet_shard, block_bytes=ROW_GROUP_BYTES),
}


def partitions(root: Path) -> list[PartitionImages]:
    """What there is to export."""
    found = []
    for number in range(BATCHES):
        batch = Batch("images.example.org", number)
        folder = OutputPaths.of(root).batch_images(batch)
        rows = BatchFiles.of(folder).images().collect()
        found.append(PartitionImages(batch, folder, rows, lambda images: None))
    return found


def export_shards(form: ShardFormat, root: Path, out: Path) -> None:
    """All partitions, as a rank does them."""
    target, notes = Target(out / "data"), Notes(out / "notes")
    for images in partitions(root):
        write_shards(form, target, notes, images, SHARD_BYTES)


def export_files(root: Path, out: Path) -> None:
    """All partitions, as a rank does them."""
    for images in partitions(root):
        rows = sizes_of(images.folder, images.rows)
        write_folder(Target(out / "data"), folder_name(images.batch), images.blocks(rows))


def copy(sources: Sequence[Path], out: Path) -> None:
    """`cp`, until the bytes are on the disk."""
    out.mkdir()
    subprocess.run(["cp", "-r", *map(str, sources), str(out)], check=True)
    subprocess.run(["sync", "-f", str(out)], check=True)


def timed(work: Callable[[Path], None], out: Path) -> float:
    """Seconds; what was written goes."""
    gc.collect()
    start = time.perf_counter()
    work(out)
    seconds = time.perf_counter() - start
    shutil.rmtree(out)
    return seconds


def compare(name: str, export: Callable[[Path], None], sources: Sequence[Path], out: Path) -> None:
    """In turns, after one of each that does not count."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS + 1):
        theirs.append(timed(partial(copy, sources), out))
        ours.append(timed(export, out))
    one, other = median(ours[1:]), median(theirs[1:])
    print(f"{name:18}: {one:6.2f} s, cp {other:6.2f} s: {one / other:.2f} times", flush=True)


if __name__ == "__main__":
    mean, size = (int(word) for word in (*sys.argv[1:], *("30000", "400")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "dataset", Path(folder) / "out"
        count = size * 1_000_000 // mean
        fill(root, count, mean)
        shards = sorted(root.glob("images/*/*/*.h5"))
        stored = sum(shard.stat().st_size for shard in shards)
        print(f"{count} images, {stored / 1e6:.0f} MB in {len(shards)} shards")
        for name, form in FORMATS.items():
            compare(name, partial(export_shards, form, root), [root / "images"], out)
        export_files(root, Path(folder) / "files")
        files = [Path(folder) / "files" / "data"]
        compare("export_files", partial(export_files, root), files, out)
