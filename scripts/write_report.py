"""Write the credits and report.html, and print the summary with the places of both."""

import argparse
import sys
from pathlib import Path

from distributed_downloader.accounts.credit import write_credits
from distributed_downloader.accounts.digest import print_places, print_summary
from distributed_downloader.accounts.report import write_report
from distributed_downloader.accounts.summary import read_summary
from distributed_downloader.configuration.config import load_settings
from distributed_downloader.durable import write_json
from distributed_downloader.errors import LedgerError
from distributed_downloader.logs import reporting_errors, start_logging


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--flag", type=Path, help="written when the report is")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with reporting_errors():
        settings = load_settings(arguments.config)
        start_logging(arguments.log, settings.logger_level, stage="report")
        summary = read_summary(settings.paths)
        if summary is None:
            raise LedgerError(f"{settings.paths.summary} is missing: run verify first.")
        write_credits(settings)
        write_report(settings, summary)
        if arguments.flag:
            write_json(arguments.flag, {"report": str(settings.paths.report)})
        print_summary(summary, sys.stdout)
        print_places(settings.paths, sys.stdout)


if __name__ == "__main__":
    main()
