# The list of URLs, checked and cut into batches of one server each.
#
# The list is no declared input: moved, renamed or gone, it would make Snakemake delete the table of
# batches and cut the list again. `begin_run` holds it against what was cut.


rule partition_urls:
    output:
        partitions=OUT.partitions,
    log:
        OUT.logs / "partition" / "partition.log",
    benchmark:
        OUT.logs / "partition" / "benchmark.tsv"
    localrule: IS_SMALL
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        **SITE,
    params:
        variables=variables("partition", threads=2),
        python=PYTHON,
        script=SCRIPTS / "partition_urls.py",
        config=CONFIG_PATH,
    message:
        "Cutting the list of URLs into batches"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
