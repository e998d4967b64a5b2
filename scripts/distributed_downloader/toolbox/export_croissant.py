"""Croissant 1.0 metadata of the dataset: `croissant.json` at its root, where its paths hold."""

from collections import Counter

import polars as pl

from distributed_downloader.durable import write_json
from distributed_downloader.exports.croissant import About, croissant
from distributed_downloader.paths import Batch
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.toolbox.exporting import DATA
from distributed_downloader.tools.filters import PythonFilterToolBase
from distributed_downloader.tools.partition import Partition
from distributed_downloader.tools.registry import FilterRegister, RunnerRegister, SchedulerRegister
from distributed_downloader.tools.runners import MPIRunnerTool
from distributed_downloader.tools.schedulers import DefaultScheduler

NAME = "export_croissant"
FILE = "croissant.json"
MOST_LICENSES = 50

FilterRegister(NAME)(PythonFilterToolBase)
SchedulerRegister(NAME)(DefaultScheduler)


@RunnerRegister(NAME)
class CroissantMetadata(MPIRunnerTool):
    """Counts licences, partition after partition; then writes the file."""

    finish_depends_on = ("dataset_name", "dataset_description", "dataset_url", "export_target")

    @property
    def results_place(self) -> str:
        """The file."""
        return str(self.paths.root / FILE)

    def process(self, partition: Partition) -> int:
        """Nothing to do for a partition by itself."""
        return len(partition.rows)

    def finish(self, batches: list[Batch]) -> None:
        """Write croissant.json."""
        root, images = self.paths.root, self.paths.images.relative_to(self.paths.root)
        parquet = self.paths.tools / "export_parquet" / DATA
        told = croissant(
            self._about(batches),
            tables=f"{images}/server_name=*/partition_id=*/successes.parquet",
            shards=f"{images}/server_name=*/partition_id=*/images-*.h5",
            parquet=f"{parquet.relative_to(root)}/*.parquet" if parquet.is_dir() else None,
        )
        write_json(root / FILE, told)

    def _about(self, batches: list[Batch]) -> About:
        licenses: Counter[str | None] = Counter()
        newest = []
        for batch in batches:
            images = BatchFiles.of(self.paths.batch_images(batch)).images()
            counts = images.group_by("license").agg(pl.len(), pl.col("fetched_at").max()).collect()
            licenses.update(dict(counts.select("license", "len").iter_rows()))
            newest += counts["fetched_at"].to_list()
        parameters = self.parameters
        return About(
            name=parameters["dataset_name"] or self.paths.root.name,
            description=parameters["dataset_description"],
            url=parameters["dataset_url"] or self.paths.root.as_uri(),
            licenses=[name for name, _ in licenses.most_common(MOST_LICENSES) if name],
            images=licenses.total(),
            published=max(newest).date().isoformat() if newest else "1970-01-01",
        )
