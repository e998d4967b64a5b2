# What all tools have in common: filter, schedule, run over MPI, account. A tool's own rule file, in
# rules/tools or in the user's folder, has one rule, its target: `input: ran_tool("<tool>")`.
#
# Nothing that a tool writes is a declared output: Snakemake would delete it after a failure. What
# is declared are flags that no run had before, so that each run looks for what is new. Tools that
# are asked for in one run follow each other, and `tables=1` holds for whatever else there is.


wildcard_constraints:
    tool="[a-z][a-z0-9_]*",
    job=r"\d+",


rule filter_images:
    input:
        ledger=ancient(before_tool),
    output:
        flag=tool_flag("filtered"),
    log:
        OUT.logs / "tools" / "{tool}" / "filter.log",
    localrule: IS_SMALL
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        **SITE,
        tables=1,
    params:
        variables=variables("tools", threads=2),
        python=PYTHON,
        script=SCRIPTS / "filter_images.py",
        config=CONFIG_PATH,
    message:
        "{wildcards.tool}: picking images"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
        " --tool {wildcards.tool} --flag {output.flag:q}"


checkpoint schedule_partitions:
    input:
        filtered=rules.filter_images.output.flag,
    output:
        plan=tool_flag("planned"),
    log:
        OUT.logs / "tools" / "{tool}" / "schedule.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        variables=variables("tools"),
        python=PYTHON,
        script=SCRIPTS / "schedule_partitions.py",
        config=CONFIG_PATH,
    message:
        "{wildcards.tool}: spreading partitions over ranks"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
        " --tool {wildcards.tool} --plan {output.plan:q}"


checkpoint run_tool:
    input:
        plan=rules.schedule_partitions.output.plan,
    output:
        progress=tool_flag("did-{job}"),
    log:
        OUT.logs / "tools" / "{tool}" / "{job}" / "rank-0.log",
    benchmark:
        OUT.logs / "tools" / "{tool}" / "{job}" / "benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **mpi_resources(
            cpus=SETTINGS.raw["tools_parameters"]["cpu_per_worker"],
            # as in the download: some tools decode what strangers made, and have decoders for it
            rank_mb=800
            + decoder_mb() * SETTINGS.raw["tools_parameters"]["cpu_per_worker"],
        ),
        tables=1,
    params:
        variables=variables("tools"),
        python=PYTHON,
        script=SCRIPTS / "run_tool.py",
        config=CONFIG_PATH,
        runtime_min=runtime_min,
    message:
        "{wildcards.tool}: at work with {resources.tasks} ranks"
    shell:
        START_RANKS
        + " --config {params.config:q} --log {log:q} --tool {wildcards.tool}"
        " --ranks {resources.tasks} --runtime-min {params.runtime_min} --progress {output.progress:q}"


rule account_for_tool:
    input:
        jobs=tool_jobs,
    output:
        flag=tool_flag("accounted"),
    log:
        OUT.logs / "tools" / "{tool}" / "account.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        variables=variables("tools"),
        python=PYTHON,
        script=SCRIPTS / "account_for_tool.py",
        config=CONFIG_PATH,
    message:
        "{wildcards.tool}: accounting for what it did"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
        " --tool {wildcards.tool} --jobs {input.jobs:q} --flag {output.flag:q}"


# Whose removals: --config tool=<name>. It needs no download, and nothing needs it.
rule restore:
    log:
        OUT.logs / "tools" / "restore.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        tables=1,
    params:
        variables=variables("tools"),
        python=PYTHON,
        script=SCRIPTS / "restore_images.py",
        config=CONFIG_PATH,
    message:
        "Putting back what a tool removed"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
