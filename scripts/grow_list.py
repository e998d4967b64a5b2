"""Take a list that has changed since the last run: new batches, tombstones for what is gone."""

import argparse
from pathlib import Path

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.durable import write_json
from distributed_downloader.logs import reporting_errors, start_logging, tell
from distributed_downloader.mpi import Solo
from distributed_downloader.waves.growing import grow
from distributed_downloader.waves.writers import writing_together
from distributed_downloader.wording import count


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the effective config")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--flag", type=Path, help="written when the list of now counts")
    return parser.parse_args()


def main() -> None:
    args = parse()
    with reporting_errors():
        settings = load_settings(args.config)
        start_logging(args.log, settings.logger_level, stage="grow")
        with writing_together(settings.paths, Solo(), "grow") as lock:
            generation, counts = grow(settings, lock.check)
        gone = generation.partitions()["gone"].sum()
        tell(
            f"the list has changed: {count(counts.rows, 'row')}, {counts.fetchable:,} of them in "
            f"{count(counts.batches, 'batch')}, {gone:,} of before are gone; "
            f"{count(counts.duplicates, 'duplicate')}, {counts.rejected:,} rejected"
        )
        if args.flag:
            write_json(args.flag, {"generation": generation.number})


if __name__ == "__main__":
    main()
