"""A process of servers on the bare wire: one for each of their modes and each lane.

They write into the fleet's own log, so that one judge counts all.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from distributed_downloader.fleet.access_log import Access, AccessLog
from tests import wire_server as wire
from tests.chaos.modes import (
    GOOD,
    IMAGE,
    IMAGE_MODES,
    RAW_MODES,
    TLS_MODES,
    TlsMode,
    Words,
    wire_words,
)
from tests.chaos.places import Place
from tests.unit.codec.test_bad_images import Bad, corpus
from tests.wire_modes import JPEG, MOST_BYTES
from tests.wire_modes import MODES as WIRE

BAD = "/bad.jpg"
AN_IMAGE = wire.answers(wire.reply(200, JPEG, content_type="image/jpeg"))
NO_RULES = wire.answers(wire.reply(404))
OF_A_KIND = 4  # images that are damaged at random


@contextmanager
def running_raw(lanes: int, log: Path) -> Iterator[list[Place]]:
    """Start the process, wait until it listens, end it with the block, or when this one is gone."""
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=serve, args=(lanes, log, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join()


def serve(lanes: int, log: Path, pipe: Connection) -> None:
    """Listen for all lanes, say where, and stay until nobody is at the other end."""
    with closing(AccessLog(log)) as access_log:
        asyncio.run(_serve(lanes, access_log, pipe))


async def _serve(lanes: int, log: AccessLog, pipe: Connection) -> None:
    images = bad_images()
    async with AsyncExitStack() as stack:
        places = [
            await _open(stack, log, name, Address(lane, number), images)
            for lane in range(lanes)
            for number, name in enumerate(RAW_MODES, 1)
        ]
        pipe.send(places)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), ended.set)
        await ended.wait()


class Address:
    """Where the n-th mode of a lane is, and its name in the log.

    Those with TLS share their names in URLs, and so one address; their ports differ.
    """

    def __init__(self, lane: int, number: int) -> None:
        has_tls = RAW_MODES[number - 1] in TLS_MODES
        self.ip = f"127.{60 + lane}.1.{250 if has_tls else number}"
        self.name = f"raw-{number}-{lane}.test"


async def _open(
    stack: AsyncExitStack,
    log: AccessLog,
    mode: str,
    address: Address,
    images: Mapping[str, Mapping[str, Bad]],
) -> Place:
    tls = TLS_MODES.get(mode)
    if tls:
        scripts, rows = {}, dict.fromkeys(GOOD, tls.words)
        otherwise = AN_IMAGE
    elif mode in IMAGE_MODES:
        scripts = {path: _sends(bad.body) for path, bad in images[mode].items()}
        rows = {path: _image_words(bad) for path, bad in images[mode].items()}
        otherwise = NO_RULES
    else:
        scripts, rows = dict.fromkeys(GOOD, AN_IMAGE), dict.fromkeys(GOOD, IMAGE)
        scripts["/robots.txt"] = NO_RULES
        rows[BAD] = wire_words(mode)
        otherwise = WIRE[mode].script
    script = recorded(log, address, scripts, otherwise)
    server = await stack.enter_async_context(_server(script, tls, address))
    host = tls.host if tls else address.name
    base = server.url("", host=host)
    return Place(mode, address.name, host, address.ip, base, rows)


def _server(
    script: wire.Script, tls: TlsMode | None, address: Address
) -> AbstractAsyncContextManager[wire.WireServer]:
    if tls is None:
        return wire.serve(script, at=address.ip)
    return wire.serve(script, tls=True, certificate=tls.certificate, at=address.ip)


def recorded(
    log: AccessLog, address: Address, scripts: Mapping[str, wire.Script], otherwise: wire.Script
) -> wire.Script:
    """The script of the path, or the other one; in the log before it answers."""

    async def script(exchange: wire.Exchange) -> bool | None:
        path = exchange.request.target
        chosen = scripts.get(path, otherwise)
        log.write(
            Access(
                time=time.time(),
                monotonic=time.monotonic(),
                host=address.name,
                group=address.name,
                address=address.ip,
                method="GET",
                path=path,
                status=200 if chosen is AN_IMAGE else 0,
                user_agent=exchange.request.headers.get("user-agent", ""),
                bytes=0,
                connections=exchange.server.connections - exchange.server.lost,
            )
        )
        return await chosen(exchange)

    return script


def _sends(body: bytes) -> wire.Script:
    return wire.answers(wire.reply(200, body, content_type="image/jpeg"))


def _image_words(bad: Bad) -> Words:
    return frozenset(word.value for word in bad.words) | (IMAGE if bad.may_pass else frozenset())


def bad_images() -> dict[str, dict[str, Bad]]:
    """Of the codec's corpus: some of each kind, by mode and path."""
    found: dict[str, dict[str, Bad]] = {mode: {} for mode in IMAGE_MODES}
    cut, other, bombs = IMAGE_MODES
    seen: dict[str, int] = {}
    for bad in (each for each in corpus() if len(each.body) < MOST_BYTES):
        mode = cut if bad.kind in ("truncated", "flipped", "spliced") else other
        mode = bombs if bad.kind.startswith(("bomb", "stuffed")) else mode
        seen[bad.kind] = seen.get(bad.kind, 0) + 1
        if seen[bad.kind] <= (OF_A_KIND if mode == cut else 1):
            found[mode][f"/{len(found[mode])}.jpg"] = bad
    return found
