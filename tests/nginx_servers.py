"""Image servers of a real nginx with `limit_req`, on loopback, from a folder of their own.

They refuse what overflows their leaky buckets with 429, and keep the log that judges us. nginx is
looked for in the path and in the variable NGINX_PROGRAM; where there is none, the fleet stands in.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.fleet.photos import photo
from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import running_fleet

START_S = 10.0


@dataclass(frozen=True)
class Limited:
    """One server: what it really allows, and how many images it has."""

    name: str
    address: str
    rate: int  # requests per second
    burst: int  # that may come early
    images: int


@dataclass(frozen=True)
class Servers:
    """Servers that listen: what they are, and their log so far."""

    kind: str
    port: int
    servers: Sequence[Limited]
    log: Path

    @property
    def hosts(self) -> dict[str, str]:
        """As the setting `hosts`."""
        return {server.name: server.address for server in self.servers}

    def urls(self) -> list[str]:
        """Of all images."""
        return [
            f"http://{server.name}:{self.port}/photos/{number:05d}.jpg"
            for server in self.servers
            for number in range(server.images)
        ]

    def requests(self) -> pl.DataFrame:
        """time (seconds), host, status: one row a request for an image."""
        if self.kind == "fleet":
            log = pl.read_ndjson(self.log)
        else:
            names = ["time", "host", "status", "path"]
            log = pl.read_csv(self.log, separator=" ", has_header=False, new_columns=names)
        log = log.filter(pl.col("path").str.starts_with("/photos/"))
        return log.select("time", "host", "status").sort("time")


def nginx_program() -> str | None:
    """The program, if this machine has it."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    return os.environ.get("NGINX_PROGRAM") or shutil.which("nginx", path=path)


@contextmanager
def limited_servers(
    servers: Sequence[Limited], folder: Path, nginx: str | None
) -> Iterator[Servers]:
    """Start them, wait until they listen, end them with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if nginx is None:
            plan = FleetPlan(hosts=tuple(_host_plan(server) for server in servers))
            log = folder / "access.jsonl"
            fleet = stack.enter_context(running_fleet(plan, log))
            yield Servers("fleet", fleet.port, servers, log)
        else:
            port = stack.enter_context(_nginx(nginx, servers, folder))
            yield Servers("nginx", port, servers, folder / "access.log")


def _host_plan(server: Limited) -> HostPlan:
    return HostPlan(
        name=server.name,
        address=server.address,
        images=server.images,
        photos="tiny",
        rate=server.rate,
        burst=server.burst,
    )


@contextmanager
def _nginx(nginx: str, servers: Sequence[Limited], folder: Path) -> Iterator[int]:
    port = _free_port()
    root = folder / "root"
    root.mkdir()
    (root / "tiny.jpg").write_bytes(photo("tiny", "tiny"))
    config = folder / "nginx.conf"
    config.write_text(_config(servers, folder, port))
    command = [nginx, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_until_listening(servers[0].address, port, process, folder)
        yield port
    finally:
        process.terminate()
        process.wait()


def _config(servers: Sequence[Limited], folder: Path, port: int) -> str:
    zones = "\n".join(
        f"  limit_req_zone $server_name zone=z{number}:1m rate={server.rate}r/s;"
        for number, server in enumerate(servers)
    )
    blocks = "\n".join(
        f"  server {{ listen {server.address}:{port}; server_name {server.name};\n"
        f"    limit_req zone=z{number} burst={server.burst} nodelay;\n"
        f"    location /photos/ {{ try_files /tiny.jpg =404; }} }}"
        for number, server in enumerate(servers)
    )
    temporary = "\n".join(
        f"  {kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  types {{ image/jpeg jpg; }}
  default_type image/jpeg;
  log_format judge "$msec $host $status $request_uri";
  access_log {folder}/access.log judge;
  keepalive_requests 1000000;
  limit_req_status 429;
  limit_req_log_level info;
  root {folder}/root;
{temporary}
{zones}
{blocks}
}}
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_listening(
    address: str, port: int, process: "subprocess.Popen[bytes]", folder: Path
) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nginx did not start: {(folder / 'error.log').read_text()}")
