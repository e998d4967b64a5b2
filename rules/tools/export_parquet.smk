# Parquet shards with the images in a binary column, for Hugging Face datasets and polars.


rule export_parquet:
    input:
        ran_tool("export_parquet"),
    localrule: True
