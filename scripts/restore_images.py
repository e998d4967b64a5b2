"""Put back what a tool removed, recount, and write the report."""

import argparse
from pathlib import Path

from distributed_downloader.accounts.report import write_report
from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.configuration.config import load_settings
from distributed_downloader.logs import reporting_errors, start_logging, tell
from distributed_downloader.mpi import Solo
from distributed_downloader.tools.restoring import restore
from distributed_downloader.waves.memories import blocks_of, load_memories
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
        tool = settings.raw["tool"]
        start_logging(args.log, settings.logger_level, stage="restore")
        with writing_together(settings.paths, Solo(), "restore") as lock:
            done = restore(settings, tool, allowed=lock.check)
        lost = f"; {count(done.lost)} not: their bytes are reclaimed" if done.lost else ""
        tell(f"restore: {count(done.images, 'image')} that {tool} removed are back{lost}")
        if tool in settings.tools:
            tell(f"note: the next run removes them again, unless {tool} is taken out of `tools`")
        summary = verify_dataset(settings, load_blocks=lambda: blocks_of(load_memories(settings)))
        write_report(settings, summary)


if __name__ == "__main__":
    main()
