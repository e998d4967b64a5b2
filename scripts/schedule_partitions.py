"""A tool's second step: spread the partitions that it has to do over ranks."""

import argparse
from pathlib import Path

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.durable import write_json
from distributed_downloader.logs import reporting_errors, start_logging, tell
from distributed_downloader.tools.steps import run_scheduler
from distributed_downloader.wording import count


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the effective config")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--plan", type=Path, required=True, help="ranks and nodes, written last")
    return parser.parse_args()


def main() -> None:
    args = parse()
    with reporting_errors():
        settings = load_settings(args.config)
        start_logging(args.log, settings.logger_level, stage=f"{args.tool} scheduler")
        plan = run_scheduler(settings, args.tool)
        if plan["is_due"]:
            work = f"{count(plan['partitions'], 'partition')} for {count(plan['ranks'], 'rank')}"
            tell(f"{args.tool}: {work}")
        else:
            tell(f"{args.tool}: nothing is new, nothing to do")
        write_json(args.plan, plan)


if __name__ == "__main__":
    main()
