"""One rank of a tool's job: `mpiexec -n N python -m mpi4py run_tool.py --ranks N ...`."""

import argparse
from pathlib import Path

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.durable import write_json
from distributed_downloader.logs import reporting_errors, start_logging
from distributed_downloader.mpi import leave_in_time, open_world
from distributed_downloader.tools.job import Job
from distributed_downloader.tools.steps import run_runner
from distributed_downloader.waves.deadline import Deadline, deadline_of
from distributed_downloader.waves.writers import writing_together


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the effective config")
    parser.add_argument("--log", type=Path, required=True, help="log of rank 0; others beside it")
    parser.add_argument("--tool", required=True)
    parser.add_argument("--ranks", type=int, required=True, help="how many were asked for")
    parser.add_argument("--runtime-min", type=int, default=0, help="of the job; 0 = not limited")
    parser.add_argument("--progress", type=Path, required=True, help="what was done, written last")
    return parser.parse_args()


def main() -> None:
    args = parse()
    with reporting_errors():
        world = open_world(args.ranks)
        settings = load_settings(args.config)
        # rank 0 tells the others when it is time: Slurm is asked once a job
        deadline = deadline_of(settings, args.runtime_min) if world.rank == 0 else Deadline()
        log = args.log.with_name(f"rank-{world.rank}.log")
        start_logging(log, settings.logger_level, stage=args.tool, rank=world.rank)
        with writing_together(settings.paths, world, f"the tool {args.tool}") as lock:
            job = Job(world, lock.check, lock.stop_requested, deadline)
            result = run_runner(settings, args.tool, job)
            if result is not None:
                write_json(args.progress, result)
        leave_in_time()


if __name__ == "__main__":
    main()
