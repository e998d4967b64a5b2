"""Ours against PySpark in local mode doing the predecessor's job, on one file, one after the other.

    python -m venv spark && spark/bin/pip install pyspark     # needs a Java runtime
    python tests/benchmarks/compare_spark.py spark/bin/python [rows]

The job: read the table, keep rows with a URL, a server name and a random uuid for each row by
Python functions, number the rows of each server, and write parquet by server and batch.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_partition import measure, write_list

JOB = """
import sys, uuid
from urllib.parse import urlparse
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as f
from pyspark.sql.types import StringType

spark = SparkSession.builder.master("local[2]").config("spark.driver.memory", "4g").getOrCreate()
table = spark.read.csv(sys.argv[1], sep="\\t", header=True, quote="")
server = f.udf(lambda url: urlparse(url).netloc, StringType())
name = f.udf(lambda: str(uuid.uuid4()), StringType())
table = table.filter(table.identifier.isNotNull()).repartition(20)
table = table.withColumn("server_name", server("identifier")).withColumn("uuid", name())
sizes = table.groupBy("server_name").count()
sizes = sizes.withColumn("batches", f.greatest(f.floor(f.col("count") / 10000), f.lit(1)))
order = Window.partitionBy("server_name").orderBy("server_name")
numbered = table.withColumn("number", f.row_number().over(order)).join(sizes, "server_name")
cut = numbered.withColumn("partition_id", f.col("number") % f.col("batches"))
cut = cut.drop("number", "count", "batches").repartition("server_name", "partition_id")
cut.write.partitionBy("server_name", "partition_id").parquet(sys.argv[2])
"""


def main() -> None:
    spark = sys.argv[1] if len(sys.argv) > 1 else ""
    if not spark:
        raise SystemExit(__doc__)
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_list(folder / "list.tsv", rows, 545)
        begun = time.perf_counter()
        measure(folder, rows)
        ours = time.perf_counter() - begun
        begun = time.perf_counter()
        words = [spark, "-c", JOB, str(folder / "list.tsv"), str(folder / "spark")]
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
        theirs = time.perf_counter() - begun
        print(f"{rows} rows: PySpark {theirs:.1f} s, ours {ours:.1f} s: {theirs / ours:.1f} times")


if __name__ == "__main__":
    main()
