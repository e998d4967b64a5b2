# The ledger, from the files alone. Its flag is temporary, so that it runs in every run.


rule verify_dataset:
    input:
        partitions=ancient(rules.partition_urls.output.partitions),
        waves=ancient(waves),
    output:
        flag=temp(OUT.logs / "verify" / "verified.json"),
    log:
        OUT.logs / "verify" / "verify.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        variables=variables("verify"),
        python=PYTHON,
        script=SCRIPTS / "verify_dataset.py",
        config=CONFIG_PATH,
    message:
        "Accounting for every row"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
        " --flag {output.flag:q}"
