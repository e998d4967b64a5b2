"""Whom to thank: for every stored image its makers and its licence, and how many each dataset gave.

`CREDITS.parquet` and `CREDITS.csv` have one row an image, `CREDITS-datasets.csv` one row a dataset
of the list (GBIF's datasetKey), which is what GBIF asks to be cited. They are written batch by
batch, in memory that does not grow with the images.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import polars as pl

from distributed_downloader.durable import whole_file
from distributed_downloader.lists.blocks import from_pieces
from distributed_downloader.lists.generations import Generation
from distributed_downloader.lists.licenses import license_classes
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.settings import Settings
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.tables import CREDITED_DATASETS, CREDITS, URLS

# Our name -> other names that lists have for it, in lower case.
ALIASES = {
    "creator": ("creator", "photographer", "author"),
    "rights_holder": ("rightsholder", "rights_holder", "owner", "copyright_owner"),
    "publisher": ("publisher", "institutioncode"),
    "reference": ("references", "reference", "page_url"),
    "dataset_key": ("datasetkey", "dataset_key"),
}


# Strangers' text that a spreadsheet would take for a formula, and run (OWASP, "CSV Injection").
HARMLESS = pl.col(pl.String).str.replace(r"^([=+\-@\t\r])", "'${1}")


def write_credits(settings: Settings) -> None:
    """Write the three tables anew from the images that are stored."""
    paths = settings.paths
    datasets: Counter[str] = Counter()
    classes: dict[str, set[str]] = {}

    def counted() -> Iterator[pl.DataFrame]:
        yield CREDITS.to_frame()
        for credits in _credits(settings):
            for key, name, images in _by_dataset(credits):
                datasets[key] += images
                classes.setdefault(key, set()).add(name)
            yield credits

    with whole_file(paths.credits) as beside:
        from_pieces(counted, CREDITS).sink_parquet(beside)
    with whole_file(paths.credits_csv) as beside:
        pl.scan_parquet(paths.credits, glob=False).with_columns(HARMLESS).sink_csv(beside)
    rows = [(key, images, "; ".join(sorted(classes[key]))) for key, images in datasets.items()]
    table = pl.DataFrame(rows, CREDITED_DATASETS, orient="row")
    with whole_file(paths.credited_datasets) as beside:
        table = table.sort("images", "dataset_key", descending=[True, False])
        table.with_columns(HARMLESS).write_csv(beside)


def _by_dataset(credits: pl.DataFrame) -> Iterator[tuple[str, str, int]]:
    with_key = credits.filter(pl.col("dataset_key").is_not_null())
    yield from with_key.group_by("dataset_key", "license_class").len().iter_rows()


def _credits(settings: Settings) -> Iterator[pl.DataFrame]:
    """CREDITS of each batch that has images."""
    paths = settings.paths
    partitions = Generation.of(paths).partitions().select("server_name", "partition_id")
    for server_name, partition_id in partitions.iter_rows():
        batch = Batch(server_name, partition_id)
        images = BatchFiles.of(paths.batch_images(batch)).images().select("uuid").collect()
        if images.height:
            yield _of_batch(batch, images, paths, settings.columns)


def _of_batch(
    batch: Batch, images: pl.DataFrame, paths: OutputPaths, columns: Mapping[str, str]
) -> pl.DataFrame:
    urls = pl.scan_parquet(paths.batch_urls(batch), hive_partitioning=False, glob=False)
    names = urls.collect_schema().names()
    found = {ours: _name_of(ours, columns, names) for ours in ALIASES}
    said = urls.select(
        "uuid",
        "license",
        pl.col("identifier").alias("source_url"),
        *(
            (pl.col(name).cast(pl.String) if name else pl.lit(None, pl.String)).alias(ours)
            for ours, name in found.items()
        ),
    ).collect()
    table = images.join(said, on="uuid", how="left", maintain_order="left")
    return table.with_columns(
        license_class=license_classes(table["license"]),
        server_name=pl.lit(batch.server_name),
        partition_id=pl.lit(batch.partition_id, pl.Int64),
    ).select(CREDITS.names())


def _name_of(ours: str, columns: Mapping[str, str], names: list[str]) -> str | None:
    """What a batch's table calls it: the config's name, else one that lists often have."""
    asked = columns[ours]
    if asked in names:
        return asked
    for name in URLS:  # a column that the config gave two uses bears the first one's name
        if columns.get(name) == asked:
            return name
    return next((name for name in names if name.lower() in ALIASES[ours]), None)
