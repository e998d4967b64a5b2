"""How many requests a second the fleet itself answers, so that it is known not to be the limit.

`python tests/benchmarks/bench_fleet.py [seconds]`: bare connections, no HTTP library, three sizes.
"""

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import Fleet, image_paths, running_fleet

CONNECTIONS = 16
IMAGES = 40


class Client(asyncio.Protocol):
    """Asks for the next image as soon as the last one is whole."""

    def __init__(self, requests: list[bytes], ends_at: float) -> None:
        self._requests, self._ends_at = requests, ends_at
        self._left = 0
        self.answers = self.bytes = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self._transport = transport
        self._ask()

    def _ask(self):
        if time.monotonic() > self._ends_at:
            self._transport.close()
        else:
            self._transport.write(self._requests[self.answers % len(self._requests)])

    def data_received(self, data):
        if self._left == 0:
            head, _, data = data.partition(b"\r\n\r\n")
            self._left = int(head.rpartition(b"Content-Length: ")[2])
        self._left -= len(data)
        self.bytes += len(data)
        if self._left == 0:
            self.answers += 1
            self._ask()

    def connection_lost(self, exc):
        self.done.set_result(None)


async def press(fleet: Fleet, seconds: float) -> tuple[float, float]:
    """Answers and megabytes a second, over all connections."""
    host = fleet.plan.hosts[0]
    rest = f" HTTP/1.1\r\nHost: {host.name}:{fleet.port}\r\nUser-Agent: bench\r\n\r\n"
    requests = [f"GET {path}{rest}".encode() for path in image_paths(host)]
    ends_at = time.monotonic() + seconds
    clients = [Client(requests, ends_at) for _ in range(CONNECTIONS)]
    loop = asyncio.get_running_loop()
    for client in clients:
        await loop.create_connection(lambda client=client: client, host.address, fleet.port)
    await asyncio.gather(*(client.done for client in clients))
    return (
        sum(client.answers for client in clients) / seconds,
        sum(client.bytes for client in clients) / seconds / 1e6,
    )


def main() -> None:
    """Print one line a kind of photo."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    for kind in ("tiny", "small", "real"):
        host = HostPlan(name="bench.test", address="127.60.0.1", photos=kind, images=IMAGES)
        with running_fleet(FleetPlan(hosts=(host,))) as fleet:
            answers, megabytes = asyncio.run(press(fleet, seconds))
            logged = fleet.accesses().height
        print(f"{kind:>5}: {answers:7,.0f} requests/s, {megabytes:6,.0f} MB/s, {logged} logged")


if __name__ == "__main__":
    main()
