# The list of URLs, checked and cut into batches of one server each.


rule partition_urls:
    input:
        table=ancient(input_files(SETTINGS)),
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
        **PAYER,
    params:
        variables=variables("partition", threads=2),
        python=PYTHON,
        script=SCRIPTS / "partition_urls.py",
        config=CONFIG_PATH,
    message:
        "Cutting the list of URLs into batches"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
