"""A tool's first step: pick images, into its filter table."""

import argparse
from pathlib import Path

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.durable import write_json
from distributed_downloader.logs import reporting_errors, start_logging, tell
from distributed_downloader.tools.steps import run_filter
from distributed_downloader.wording import count


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the effective config")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--flag", type=Path, required=True, help="written when the table is")
    return parser.parse_args()


def main() -> None:
    args = parse()
    with reporting_errors():
        settings = load_settings(args.config)
        start_logging(args.log, settings.logger_level, stage=f"{args.tool} filter")
        images = run_filter(settings, args.tool)
        tell(f"{args.tool}: {count(images, 'image')} picked")
        write_json(args.flag, {"images": images})


if __name__ == "__main__":
    main()
