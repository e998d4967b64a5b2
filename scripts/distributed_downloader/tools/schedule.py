"""schedule.csv: which rank begins with which partition, and what it says of the job."""

from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.errors import FolderError
from distributed_downloader.paths import Batch
from distributed_downloader.tools.base import SERVER_NAME

_COLUMNS = ("server_name", "partition_id", "rank")


def read_schedule(file: Path) -> dict[Batch, int]:
    """The rank of each scheduled partition. Raises FolderError for a file that is no schedule."""
    try:
        table = pl.read_csv(file, infer_schema=False).select(_COLUMNS).with_columns(SERVER_NAME)
        numbers = table.cast({"partition_id": pl.Int64, "rank": pl.Int64})
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FolderError(
            f"{file} is no schedule ({' '.join(str(error).split())[:200]}): it needs the columns "
            f"{', '.join(_COLUMNS)}."
        ) from error
    return {Batch(server, number): rank for server, number, rank in numbers.iter_rows()}


def plan_of(schedule: dict[Batch, int], parameters: Any, *, is_finished: bool) -> dict[str, Any]:
    """What the workflow asks of it: ranks, the nodes they need, and whether a job is due."""
    most = parameters["max_nodes"] * parameters["workers_per_node"]
    ranks = max(1, min(most, len(schedule)))
    return {
        "ranks": ranks,
        "nodes": -(-ranks // parameters["workers_per_node"]),
        "partitions": len(schedule),
        "is_due": bool(schedule) or not is_finished,
    }
