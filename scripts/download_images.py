"""One rank of a wave: `mpiexec -n N python -m mpi4py download_images.py --ranks N ...`."""

import argparse
import asyncio
from pathlib import Path

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.logs import reporting_errors, start_logging
from distributed_downloader.mpi import leave_in_time, open_world
from distributed_downloader.waves.deadline import Deadline, deadline_of
from distributed_downloader.waves.wave import Bounds, run_wave
from distributed_downloader.waves.writers import writing_together


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the effective config")
    parser.add_argument("--log", type=Path, required=True, help="log of rank 0; others beside it")
    parser.add_argument("--wave", type=int, required=True)
    parser.add_argument("--ranks", type=int, required=True, help="how many were asked for")
    parser.add_argument("--runtime-min", type=int, default=0, help="of the job; 0 = not limited")
    return parser.parse_args()


def main() -> None:
    args = parse()
    with reporting_errors():
        world = open_world(args.ranks)
        settings = load_settings(args.config)
        # rank 0 tells the others when it is time: Slurm is asked once a wave
        deadline = deadline_of(settings, args.runtime_min) if world.rank == 0 else Deadline()
        log = args.log.with_name(f"rank-{world.rank}.log")
        start_logging(log, settings.logger_level, stage=f"wave {args.wave}", rank=world.rank)
        with writing_together(settings.paths, world, f"wave {args.wave}") as lock:
            asyncio.run(run_wave(settings, args.wave, world, Bounds(lock, deadline)))
        leave_in_time()


if __name__ == "__main__":
    main()
