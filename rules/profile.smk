# What each server is like: a few samples, asked as politely as everything else.
#
# `ancient` marks the very value that it is given: without `str` the table would be ancient for all.


rule profile_servers:
    input:
        partitions=ancient(str(rules.partition_urls.output.partitions)),
    output:
        profiles=OUT.profiles_table,
    log:
        OUT.logs / "profile" / "profile.log",
    benchmark:
        OUT.logs / "profile" / "benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: SETTINGS.cpu_per_worker
    resources:
        **SITE,
    params:
        variables=variables("profile"),
        python=PYTHON,
        script=SCRIPTS / "profile_servers.py",
        config=CONFIG_PATH,
    message:
        "Asking each server for a few samples"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
