"""`python -m distributed_downloader.fleet --plan plan.json --log access.jsonl`.

Prints one line of JSON (port, pid, hosts) when it listens. Ends on SIGTERM or SIGINT, and with
`--until-stdin-closes` also when whoever started it is gone.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path

from distributed_downloader.errors import DownloaderError
from distributed_downloader.fleet.access_log import AccessLog
from distributed_downloader.fleet.plan import FleetPlan
from distributed_downloader.fleet.server import listen
from distributed_downloader.fleet.site import make_sites


def free_port(addresses: set[str]) -> int:
    """A port that is free at all these addresses at this moment."""
    while True:
        sockets = [socket.socket() for _ in addresses]
        try:
            port = 0
            for one, address in zip(sockets, sorted(addresses), strict=True):
                one.bind((address, port))
                port = one.getsockname()[1]
            return port
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()


async def serve(plan: FleetPlan, log: AccessLog, until_stdin_closes: bool) -> None:
    """Make the photos, listen, say so, and stay until asked to end."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _end_with_stdin, ended)
    port = plan.port or free_port({host.address for host in plan.hosts if host.listens})
    plan = dataclasses.replace(plan, port=port)
    async with AsyncExitStack() as stack:
        await listen(plan, make_sites(plan.hosts, port), log, stack)
        hosts = {host.name: host.address for host in plan.hosts}
        print(json.dumps({"port": port, "pid": os.getpid(), "hosts": hosts}), flush=True)
        await ended.wait()


def _end_with_stdin(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        ended.set()


def main() -> int:
    """Exit 0 when asked to end, 1 with a sentence when it cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m distributed_downloader.fleet")
    parser.add_argument("--plan", type=Path, required=True, help="JSON, see fleet/plan.py")
    parser.add_argument("--log", type=Path, required=True, help="JSON lines are appended here")
    parser.add_argument("--until-stdin-closes", action="store_true")
    asked = parser.parse_args()
    try:
        plan = FleetPlan.from_json(asked.plan.read_text(encoding="utf-8"))
        with closing(AccessLog(asked.log)) as log:
            asyncio.run(serve(plan, log, asked.until_stdin_closes))
    except DownloaderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
