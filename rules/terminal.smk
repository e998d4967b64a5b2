# What the terminal shows: our stages tell of themselves, Snakemake of what went wrong. No rules here.
#
# `quiet: all` would hide its errors too: a config that is not there would end a run without a word.

import logging
import re
import sys

from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

MISSED = re.compile(r"MissingRuleException:\nNo rule to produce (\w+) \(")  # a target
OF_A_JOB = (
    "RuleException",
    "Exiting because a job",
    "WorkflowError:\nAt least one job",
)


def is_for_people(record):
    """Of Snakemake's own words the warnings and errors; why a job failed, the job has said."""
    if record.levelno < logging.WARNING:
        return False
    missed = MISSED.match(record.getMessage())
    if missed:  # rules/tool_order.smk knows the tools by now
        record.msg = f"error: {no_such_target(missed[1], TOOL_FILES)}"
    is_of_a_job = getattr(record, "event", None) in (
        LogEvent.JOB_ERROR,
        LogEvent.GROUP_ERROR,
    )
    return not (is_of_a_job or record.getMessage().startswith(OF_A_JOB))


def hush(output):
    """With `quiet: [host, ...]`, unless it is a dry run or --verbose; the log has everything."""
    if Quietness.HOST in (output.quiet or ()) and not (output.dryrun or output.verbose):
        for handler in logging.getLogger("snakemake.logging").handlers:
            if handler.name == "DefaultStreamHandler":
                handler.addFilter(is_for_people)


def point_to(account):
    """Where Snakemake's own account of an error lies; who interrupts a run knows why it ended."""
    if not was_asked_to_end():
        print("Which job failed, and how:", *account, file=sys.stderr)


hush(workflow.output_settings)
