# A list that has changed since the last run: what is new in it becomes new batches.
#
# Nothing of it is a declared output: Snakemake deletes the outputs of a job that failed. What is
# declared only says that the list of now counts. As a checkpoint, because waves depend on it.


checkpoint grow_list:
    input:
        partitions=ancient(str(rules.partition_urls.output.partitions)),
    output:
        flag=OUT.logs / "partition" / "generation-{generation}.json",
    log:
        OUT.logs / "partition" / "generation-{generation}.log",
    localrule: IS_SMALL
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        **SITE,
    params:
        variables=variables("partition", threads=2),
        python=PYTHON,
        script=SCRIPTS / "grow_list.py",
        config=CONFIG_PATH,
    message:
        "Taking up a list that has changed"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
        " --flag {output.flag:q}"


def list_of_now(wildcards):
    """The flag of the generation that this run makes; nothing if the list is what it was."""
    if GENERATION is None:
        return []
    return checkpoints.grow_list.get(generation=GENERATION).output.flag
