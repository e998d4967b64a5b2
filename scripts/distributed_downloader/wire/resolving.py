"""From a host's name to the addresses that may be connected to.

`hosts` (the run's own table) is asked first, then DNS: in our own threads, one question per name at
a time, with a bounded wait and a short memory, so that a thousand rows of a dead domain ask once.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from aiohttp.abc import AbstractResolver, ResolveResult

from distributed_downloader.urls.addresses import literal, refusal

Lookup = Callable[[str], list[str]]  # addresses of a name; raises OSError or UnicodeError

THREADS = 32
MOST_NAMES = 10_000
MOST_ADDRESSES = 8  # of one name


class RefusedAddressError(OSError):
    """The host is, or resolves to, an address that must not be connected to."""


class AnonymousError(OSError):
    """The host is at a public address, and we do not say who asks."""


def system_lookup(name: str) -> list[str]:
    """What the system's resolver says, in its order of preference."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class NameSettings:
    """How names are resolved. Times in seconds."""

    hosts: Mapping[str, str] = field(default_factory=dict)  # name -> address, asked before DNS
    pinned: Mapping[str, str | None] = field(default_factory=dict)  # as planned: DNS is not asked
    allow_private: bool = False
    allow_public: bool = True  # False: our User-Agent names no contact
    wait_s: float = 15.0
    remember_s: float = 300.0
    remember_failure_s: float = 1.0  # no longer: the network may come back
    lookup: Lookup = system_lookup


def error_of(host: str, address: str, settings: NameSettings) -> OSError | None:
    """Why this address of the host must not be connected to; None if it may."""
    why = refusal(address)
    if why is None and not settings.allow_public:
        return AnonymousError(
            f"{host} is at {address}, a public address, and our User-Agent names no contact"
        )
    if why is not None and not settings.allow_private:
        return RefusedAddressError(f"{host} is at {address}, which is not public ({why})")
    return None


def checked(host: str, addresses: list[str], settings: NameSettings) -> list[str]:
    """Those addresses that may be connected to; the first one's error, if none may.

    A public name with a private address beside is a known trick (DNS rebinding): the private one
    is left out. An empty list passes as it is.
    """
    errors = {address: error_of(host, address, settings) for address in addresses}
    allowed = [address for address in addresses if errors[address] is None]
    if not allowed:
        for error in filter(None, errors.values()):
            raise error
    return allowed


class Resolver(AbstractResolver):
    """aiohttp's question "where is this host?", answered with checked addresses only."""

    def __init__(self, settings: NameSettings) -> None:
        self._settings = settings
        self._hosts = {_plain(name): address for name, address in settings.hosts.items()}
        self._known: dict[str, tuple[float, list[str] | OSError]] = {}  # name -> (until, answer)
        self._asking: dict[str, asyncio.Task[list[str] | OSError]] = {}
        self._lookups: set[asyncio.Future[list[str] | OSError]] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolver")
        self._slots = asyncio.Semaphore(THREADS)

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002
        *,
        is_trusted: bool = False,
    ) -> list[ResolveResult]:
        """Checked addresses of a host, a name or a literal; OSError (gaierror) if there is none.

        Those of a host that the user trusts (a proxy) are not checked.
        """
        found = await self.addresses(host)
        if not is_trusted:
            found = checked(host, found, self._settings)
        return [_result(host, address, port) for address in found[:MOST_ADDRESSES]]

    async def addresses(self, host: str) -> list[str]:
        """All addresses of a host, unchecked: for grouping by address."""
        spelled = literal(host)
        if spelled is not None:
            return [str(spelled)]
        name = _plain(host)
        if name in self._hosts:
            return [self._hosts[name]]
        if name in self._settings.pinned:
            return [_planned(self._settings.pinned[name])]
        answer = await self._answer(name)
        if isinstance(answer, OSError):
            raise type(answer)(*answer.args)  # afresh: one exception must not have many tracebacks
        return answer

    async def close(self) -> None:
        """Forget the questions that are under way."""
        for waiting in (*self._asking.values(), *self._lookups):
            waiting.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, name: str) -> list[str] | OSError:
        now = asyncio.get_running_loop().time()
        until, known = self._known.get(name, (now, []))
        if until > now:
            return known
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.create_task(self._ask(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(task)  # one asker that gives up must not cost the others

    async def _ask(self, name: str) -> list[str] | OSError:
        answer = await self._look_up(name)
        failed = isinstance(answer, OSError)
        seconds = self._settings.remember_failure_s if failed else self._settings.remember_s
        if len(self._known) >= MOST_NAMES:
            self._known.clear()
        self._known[name] = (asyncio.get_running_loop().time() + seconds, answer)
        return answer

    async def _look_up(self, name: str) -> list[str] | OSError:
        await self._slots.acquire()  # the wait is counted from when a thread is free
        loop = asyncio.get_running_loop()
        lookup = loop.run_in_executor(self._threads, _looked_up, self._settings.lookup, name)
        self._lookups.add(lookup)
        lookup.add_done_callback(self._lookup_done)
        done, _ = await asyncio.wait({lookup}, timeout=self._settings.wait_s)
        if not done:
            return socket.gaierror(
                socket.EAI_AGAIN, f"no answer from DNS within {self._settings.wait_s:g} s"
            )
        return lookup.result()

    def _lookup_done(self, lookup: "asyncio.Future[list[str] | OSError]") -> None:
        self._lookups.discard(lookup)
        self._slots.release()


def _planned(address: str | None) -> str:
    """Its group's budget is that of this address: one that moved waits for the next plan."""
    if address is None:
        raise socket.gaierror(socket.EAI_NONAME, "no address when the wave was planned")
    return address


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _looked_up(lookup: Lookup, name: str) -> list[str] | OSError:
    try:
        return lookup(name) or socket.gaierror(socket.EAI_NONAME, "no address")
    except UnicodeError:  # a label over 63 characters, an empty one
        return socket.gaierror(socket.EAI_NONAME, "not a name that DNS can hold")
    except OSError as error:
        return error


def _result(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
