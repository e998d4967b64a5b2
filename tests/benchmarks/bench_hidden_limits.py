"""Servers with limits that nobody told us, by the whole workflow; the servers' own log judges.

    python tests/benchmarks/bench_hidden_limits.py [wide] [narrow] [brief] [--fleet]

wide    20 servers that really allow 7 to 20/s (burst 5), the config says 50/s: after the first
        minute under 1% refused, and at least 90% of what the servers allow
narrow  8 servers x 900 images that allow 10/s (burst 3), the config says 50/s, first_s is 2: under
        2% refused over the whole run, its time at most 1.35 of the bound, learning included
brief   2 such servers x 40 images: whether all this works

A real nginx with limit_req where there is one, else (or with --fleet) the project's own servers.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from tests.nginx_servers import Limited, Servers, limited_servers, nginx_program

CHECKOUT = Path(__file__).resolve().parents[2]
MINUTE_S = 60.0
WIDE_S = 180.0  # how long each server of `wide` would take at what it allows


def wide() -> list[Limited]:
    """7, 7.7, 8.4, ... 20 requests per second, in whole ones."""
    rates = [round(7 + 13 * number / 19) for number in range(20)]
    return [
        Limited(f"images.wide{n}.test", f"127.45.0.{n + 1}", rate, 5, round(rate * WIDE_S))
        for n, rate in enumerate(rates)
    ]


def narrow() -> list[Limited]:
    """All alike."""
    return [Limited(f"images.narrow{n}.test", f"127.45.1.{n + 1}", 10, 3, 900) for n in range(8)]


def brief() -> list[Limited]:
    """The same, for a few seconds."""
    return [replace(server, images=40) for server in narrow()[:2]]


SHORT = {"backoff": {"first_s": 2}}
CASES = {"wide": (wide, {}), "narrow": (narrow, SHORT), "brief": (brief, SHORT)}


def run_workflow(servers: Servers, folder: Path, politeness: Mapping[str, Any]) -> None:
    """The command that a user types; its words are shown only if it fails."""
    (folder / "urls.txt").write_text("".join(f"{url}\n" for url in servers.urls()))
    config = {
        "path_to_input": str(folder / "urls.txt"),
        "path_to_output": str(folder / "dataset"),
        "downloader_parameters": {"default_rate_limit": 50},
        "politeness": {"allow_private_addresses": True, **politeness},
        "profile": {"samples": 0},
        "hosts": servers.hosts,
    }
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local"]
    done = subprocess.run(
        [*command, "--configfile", str(folder / "config.json")],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nThe workflow ended with {done.returncode}.")


def figures(log: pl.DataFrame, servers: Sequence[Limited]) -> dict[str, float]:
    """Shares of all servers together, the worst server's, and times over their bound."""
    start, refused = log["time"].min(), pl.col("status") == 429
    later = log.filter(pl.col("time") >= start + MINUTE_S)
    found = {
        "refused": log.select(refused.mean()).item(),
        "refused after a minute": later.select(refused.mean()).item() or 0.0,
        "refused after a minute, worst server": max(
            later.group_by("host").agg(refused.mean().alias("share"))["share"], default=0.0
        ),
    }
    shares, times = [], []
    for server in servers:
        mine = log.filter((pl.col("host") == server.name) & (pl.col("status") == 200))["time"]
        times.append((mine.max() - start) / (server.images / server.rate))
        window_s = mine.max() - start - MINUTE_S
        if window_s > 0:
            shares.append((mine >= start + MINUTE_S).sum() / (server.rate * window_s))
    return found | {
        "goodput after a minute, mean": sum(shares) / len(shares) if shares else 0.0,
        "goodput after a minute, worst server": min(shares, default=0.0),
        "time over the bound, mean": sum(times) / len(times),
        "time over the bound, worst server": max(times),
    }


def main() -> None:
    """One block a case."""
    words = [word for word in sys.argv[1:] if word in CASES]
    nginx = None if "--fleet" in sys.argv else nginx_program()
    for word in words or ("wide", "narrow"):
        plan, politeness = CASES[word]
        with (
            tempfile.TemporaryDirectory(prefix="hidden-") as name,
            limited_servers(plan(), Path(name) / "servers", nginx) as servers,
        ):
            run_workflow(servers, Path(name), politeness)
            ledger = pl.read_parquet(Path(name) / "dataset" / "ledger.parquet")
            found = figures(servers.requests(), servers.servers)
        print(f"{word}, by {servers.kind}")
        ok = ledger.filter(pl.col("state") == "ok").height
        print(f"  {'arrived':<40}{ok} of {ledger.height}")
        for label, value in found.items():
            print(f"  {label:<40}{value:.2%}" if value <= 0.5 else f"  {label:<40}{value:.3f}")


if __name__ == "__main__":
    main()
