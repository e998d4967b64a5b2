"""The dataset in other shapes: tar shards, parquet, plain files, Croissant, contact sheets."""
