"""Check the list of URLs and cut it into batches."""

import argparse
from pathlib import Path

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.courtesy.groups import group_of
from distributed_downloader.lists.partition import partition_urls
from distributed_downloader.logs import reporting_errors, start_logging, tell
from distributed_downloader.wording import count


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the effective config")
    parser.add_argument("--log", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    args = parse()
    with reporting_errors():
        settings = load_settings(args.config)
        start_logging(args.log, settings.logger_level, stage="partition")
        counts = partition_urls(settings, lambda server: group_of(server, settings.politeness))
        tell(
            f"partition: {count(counts.rows, 'row')}, {counts.fetchable:,} to fetch from "
            f"{count(counts.servers, 'server')} in {count(counts.batches, 'batch')}; "
            f"{count(counts.duplicates, 'duplicate')}, {counts.rejected:,} rejected"
        )


if __name__ == "__main__":
    main()
