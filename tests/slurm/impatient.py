"""`snakemake`, asking Slurm twice a second: a cluster of our own bears it, a real one must not.

What a run on Slurm waits for is mostly its next look at the queue. No setting makes the executor
look more often than every 10 s, and then ever more rarely; see profiles/slurm.
"""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

LOOK_S = 0.5


async def sleep(_: RemoteExecutor) -> None:
    await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    RemoteExecutor.sleep = sleep
    sys.exit(main())
