# Which tools there are, which of them this run was asked for, and in which order. No rules here.

from distributed_downloader.tools.registry import (
    check_names,
    no_such_target,
    rule_files,
)
from distributed_downloader.tools.steps import job_is_due

try:
    TOOL_FILES = rule_files(SETTINGS.raw["tools_parameters"]["folder"])
    check_names(SETTINGS.tools, SETTINGS.raw["tools_parameters"]["folder"])
except DownloaderError as error:
    sys.exit(f"error: {error}")


def tools_of_run():
    """The tools that this run was asked for, in order: those of the config, then others.

    Jobs on other nodes, which know one target only, find it in their environment.
    """
    if "RUN_TOOLS" in RUN:
        return RUN["RUN_TOOLS"].split()
    targets = set(workflow.dag_settings.targets or ["all"])
    is_listed = "all" in targets
    listed = [tool for tool in SETTINGS.tools if is_listed or tool in targets]
    tools = listed + sorted(targets & set(TOOL_FILES) - set(listed))
    os.environ.update(RUN_TOOLS=" ".join(tools))
    return tools


def tool_flag(step):
    return OUT.logs / "tools" / f"{Path(FLAG).stem}-{{tool}}-{step}.json"


def ran_tool(tool):
    """What a tool's target asks for: that it ran, and that the dataset was counted after it."""
    return str(tool_flag("accounted")).replace("{tool}", tool)


def before_tool(wildcards):
    """The tool before it in this run; before the first, the count of all that was downloaded."""
    tools = [*tools_of_run(), wildcards.tool]
    earlier = tools[: tools.index(wildcards.tool)]
    return ran_tool(earlier[-1]) if earlier else str(rules.verify_dataset.output.flag)


def tool_jobs(wildcards):
    """Ask for one job after the other while partitions are left."""
    tool, done = wildcards.tool, []
    plan = checkpoints.schedule_partitions.get(tool=tool).output.plan
    while job_is_due(Path(plan), done, SETTINGS):
        job = checkpoints.run_tool.get(tool=tool, job=len(done))
        done.append(Path(job.output.progress))
    return done
