"""One batch: consolidated, its images removed, and what its folder says."""

import polars as pl

from distributed_downloader.records import ErrorClass
from distributed_downloader.storage.batch_files import STATES, read_states
from distributed_downloader.storage.consolidation import consolidate
from tests.unit.storage_folder import allowed, failed

WAVES = 3
DOWN = failed(ErrorClass.SERVER_DOWN, costs_a_try=False)


def consolidated(folder, total=10, **changes):
    options = {"retries_waves": WAVES, "allowed": allowed, **changes}
    return consolidate(folder.batch, folder.paths, total, **options)


def states(folder):
    table = read_states(folder.batch, folder.paths, WAVES)
    assert table.schema == STATES
    assert table["uuid"].is_unique().all()
    return dict(table.select("uuid", "state").iter_rows())


def known(folder, number=1):
    (said,) = read_states(folder.batch, folder.paths, WAVES).filter(uuid=f"row-{number}").to_dicts()
    return said


def shards_of(folder):
    return sorted(path.name for path in folder.images.glob("images-*.h5"))


def errors_of(folder):
    return pl.read_parquet(folder.images / "errors.parquet", hive_partitioning=False)


def removal(*numbers, refetch=False):
    return pl.DataFrame(
        {
            "uuid": [f"row-{number}" for number in numbers],
            "tool": "size_based",
            "reason": "too small",
            "refetch": refetch,
        }
    )
