"""`make run`: start the demo's image servers, download from them, and ask them how polite we were.

Interrupt it at any time; the same command goes on.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import polars as pl

from distributed_downloader.durable import write_text
from distributed_downloader.errors import DownloaderError
from distributed_downloader.fleet.demo import demo_csv, demo_plan
from distributed_downloader.fleet.judge import peak_requests, read_log
from distributed_downloader.fleet.plan import FleetPlan
from distributed_downloader.fleet.running import running_fleet
from distributed_downloader.wording import count

HOUSE = Path(__file__).resolve().parents[1]
DEMO = HOUSE / "demo"
LIST = DEMO / "urls.csv"
LOG = DEMO / "access.jsonl"
SNAKEMAKE = (sys.executable, "-m", "snakemake")
CONFIG = ("--profile", "profiles/local", "--configfile", "config/demo.yaml")
MOST_DEMOS = 100  # on one machine
PR_SET_PDEATHSIG = 1  # Linux: prctl(2)
REFUSALS = (429, 503)


def main() -> int:
    """Snakemake's exit code."""
    plan = demo_plan(port_of(LIST))
    write_list(LIST, demo_csv(plan))
    try:
        began = time.monotonic()
        with running_fleet(plan, LOG):
            print(f"{len(plan.hosts)} image servers on loopback, port {plan.port}.", flush=True)
            code = run([*SNAKEMAKE, *CONFIG])
    except DownloaderError as error:
        print(f"error: {error} Or remove {DEMO}: the demo begins anew, elsewhere.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before Snakemake has begun
        return 128 + signal.SIGINT
    print(verdict(plan, read_log(LOG), began))
    return code


def port_of(path: Path) -> int:
    """The port of the list that is there, so that the same command goes on; else a free one."""
    try:
        found = re.search(r"\.test:(\d+)/", path.read_text(encoding="utf-8"))
    except OSError:
        found = None
    return int(found[1]) if found else free_port(demo_plan())


def free_port(plan: FleetPlan) -> int:
    """The plan's own, or the next that nobody has at its first server; another demo may be up."""
    for port in range(plan.port, plan.port + MOST_DEMOS):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((plan.hosts[0].address, port))
            return port
    return plan.port


def write_list(path: Path, text: str) -> None:
    """Write the list, unless it is there: nothing that is up to date is touched."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def run(command: Sequence[str]) -> int:
    """The command's exit code; what asks us to end is passed on, once, to all of its processes.

    It has a session of its own, else Ctrl-C would reach it a second time; its words go straight to
    our terminal. If we are killed it is asked to end.
    """
    child = subprocess.Popen(
        command,
        cwd=HOUSE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509  (no threads here)
    )

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    code = child.wait()
    return 128 - code if code < 0 else code


def end_with_parent() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def verdict(plan: FleetPlan, log: pl.DataFrame, began: float) -> str:
    """What the servers saw of this run, in one sentence."""
    run_log = log.filter(pl.col("monotonic") >= began)
    if run_log.is_empty():
        return f"Servers' own logs: no request in this run, {count(log.height)} in all."
    refused = run_log.filter(pl.col("status").is_in(REFUSALS)).height
    peaks = peak_requests(run_log, window_s=1.0, by="group")
    busiest = max(peaks, key=lambda group: peaks[group])
    host = next(host for host in plan.hosts if host.pace_group == busiest)
    return (
        f"Servers' own logs: {count(run_log.height)} requests, {refused} refused; at most "
        f"{peaks[busiest]} in any second at one server ({busiest}, which allows {host.rate:g}/s "
        f"and a burst of {host.burst:g}). See {LOG}."
    )


if __name__ == "__main__":
    sys.exit(main())
