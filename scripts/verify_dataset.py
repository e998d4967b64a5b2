"""Recount the dataset from its files: ledger.parquet, left.json and summary.json."""

import argparse
from pathlib import Path

from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.configuration.config import load_settings
from distributed_downloader.durable import write_json
from distributed_downloader.logs import reporting_errors, start_logging
from distributed_downloader.waves.memories import blocks_of, load_memories


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--flag", type=Path, help="written when every row is accounted for")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with reporting_errors():
        settings = load_settings(arguments.config)
        start_logging(arguments.log, settings.logger_level, stage="verify")
        summary = verify_dataset(settings, load_blocks=lambda: blocks_of(load_memories(settings)))
        if arguments.flag:
            told = {key: summary[key] for key in ("written", "rows", "states")}
            write_json(arguments.flag, told)


if __name__ == "__main__":
    main()
