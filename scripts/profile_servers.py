"""Ask each server for a few samples and write down what it is like."""

import argparse
import asyncio
from pathlib import Path

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.logs import reporting_errors, start_logging, tell
from distributed_downloader.mpi import Solo
from distributed_downloader.waves.growing import take_over
from distributed_downloader.waves.profiles import profile_servers
from distributed_downloader.waves.writers import writing_together
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
        start_logging(args.log, settings.logger_level, stage="profile")
        with writing_together(settings.paths, Solo(), "profile") as lock:
            copied = take_over(settings, lock.check)
            if settings.previous_output is not None:
                tell(f"copied from {settings.previous_output}: {count(copied, 'image')}")
            profiles = asyncio.run(profile_servers(settings, lock))
        tell(
            f"profile: {count(len(profiles), 'server')}, "
            f"{count(profiles['success_count'].sum(), 'sample')} stored, "
            f"{profiles['error_count'].sum():,} failed"
        )


if __name__ == "__main__":
    main()
