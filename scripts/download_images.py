"""One rank of a wave: `mpiexec -n N python -m mpi4py download_images.py --ranks N ...`."""

import argparse
import asyncio
from pathlib import Path

from distributed_downloader.config import load_settings
from distributed_downloader.logs import reporting_errors, start_logging
from distributed_downloader.mpi import open_world
from distributed_downloader.wave import run_wave
from distributed_downloader.writers import writing_together


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the effective config")
    parser.add_argument("--log", type=Path, required=True, help="log of rank 0; others beside it")
    parser.add_argument("--wave", type=int, required=True)
    parser.add_argument("--ranks", type=int, required=True, help="how many were asked for")
    return parser.parse_args()


def main() -> None:
    args = parse()
    with reporting_errors():
        world = open_world(args.ranks)
        settings = load_settings(args.config)
        log = args.log.with_name(f"rank-{world.rank}.log")
        start_logging(log, settings.logger_level, stage=f"wave {args.wave}", rank=world.rank)
        with writing_together(settings.paths, world, f"wave {args.wave}") as lock:
            asyncio.run(run_wave(settings, args.wave, world, lock))


if __name__ == "__main__":
    main()
