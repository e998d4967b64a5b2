# One wave's plan: which rank asks which group, and how long it will take.


rule schedule_wave:
    input:
        profiles=ancient(str(rules.profile_servers.output.profiles)),
        list=ancient(list_of_now),
    output:
        plan=OUT.schedules / "{wave}" / "plan.json",
        schedule=OUT.schedules / "{wave}" / "schedule.parquet",
    log:
        OUT.logs / "schedule" / "{wave}.log",
    benchmark:
        OUT.logs / "schedule" / "{wave}.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        variables=variables("schedule"),
        first=FIRST_WAVE,
        python=PYTHON,
        script=SCRIPTS / "schedule_wave.py",
        config=CONFIG_PATH,
    message:
        "Planning wave {wildcards.wave}"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
        " --wave {wildcards.wave} --first {params.first}"


rule plan:
    input:
        profiles=ancient(str(rules.profile_servers.output.profiles)),
        list=ancient(list_of_now),
    log:
        OUT.logs / "schedule" / "plan.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        variables=variables("schedule"),
        python=PYTHON,
        script=SCRIPTS / "schedule_wave.py",
        config=CONFIG_PATH,
    message:
        "How long it will take"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
