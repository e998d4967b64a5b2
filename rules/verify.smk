# The ledger, from the files alone. Its flag is new in every run, so it runs in every run.
#
# Partition and profile are no ancient inputs here: Snakemake does not look beyond an ancient file
# that is there, so a run that had to mend one of them would end with that.


rule verify_dataset:
    input:
        partitions=rules.partition_urls.output.partitions,
        profiles=rules.profile_servers.output.profiles,
        list=ancient(list_of_now),
        waves=ancient(waves),
    output:
        flag=temp(OUT.logs / "verify" / FLAG),
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
