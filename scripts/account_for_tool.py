"""After a tool: say what it did; if it changed the dataset, recount it and write the report."""

import argparse
from pathlib import Path

from distributed_downloader.accounts.report import write_report
from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.configuration.config import load_settings
from distributed_downloader.durable import read_json, write_json
from distributed_downloader.logs import reporting_errors, start_logging, tell
from distributed_downloader.waves.memories import blocks_of, load_memories
from distributed_downloader.wording import count


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the effective config")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--jobs", type=Path, nargs="*", default=[], help="what each job did")
    parser.add_argument("--flag", type=Path, required=True, help="written when all is counted")
    return parser.parse_args()


def what_was_done(images: int, removed: int, left: int, place: str) -> str:
    """For people."""
    gone = f", {count(removed)} removed" if removed else ""
    rest = f", {count(left, 'partition')} left: the same command goes on" if left else ""
    return f"{count(images, 'image')} done{gone}{rest}; see {place}".removesuffix("; see ")


def main() -> None:
    args = parse()
    with reporting_errors():
        settings = load_settings(args.config)
        start_logging(args.log, settings.logger_level, stage=args.tool)
        jobs = [read_json(job) for job in args.jobs]
        images, removed = (sum(job.get(key, 0) for job in jobs) for key in ("images", "removed"))
        left = jobs[-1]["left"] if jobs else 0
        if jobs:
            place = jobs[-1].get("results_place", "")
            tell(f"{args.tool}: {what_was_done(images, removed, left, place)}")
        if removed:
            summary = verify_dataset(
                settings, load_blocks=lambda: blocks_of(load_memories(settings))
            )
            write_report(settings, summary)
        write_json(args.flag, {"images": images, "removed": removed, "left": left})


if __name__ == "__main__":
    main()
