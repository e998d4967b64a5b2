# The summary and the page. Its flag is new in every run, so it runs in every run.


rule write_report:
    input:
        verified=rules.verify_dataset.output.flag,
        tools=[ran_tool(tool) for tool in SETTINGS.tools],
    output:
        flag=temp(OUT.logs / "report" / FLAG),
    log:
        OUT.logs / "report" / "report.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        variables=variables("report"),
        python=PYTHON,
        script=SCRIPTS / "write_report.py",
        config=CONFIG_PATH,
    message:
        "Writing the report"
    shell:
        "exec env {params.variables} {params.python} {params.script} --config {params.config:q} --log {log:q}"
        " --flag {output.flag:q}"


# Printed when the run begins (`start`): it takes no lock, writes nothing, and may run beside a run.
rule status:
    localrule: True
    message:
        "How far it is"
