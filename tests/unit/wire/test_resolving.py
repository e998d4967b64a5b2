import asyncio
import socket
import threading
from collections.abc import Callable

import pytest

from distributed_downloader.wire.resolving import NameSettings, RefusedAddressError, Resolver


class FakeDns:
    """Answers from a table, and remembers who asked what."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): found for name, found in names.items()}
        self.asked: list[str] = []

    def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.names[name]


def resolved(
    host: str, *, dns: Callable[[str], list[str]], times: int = 1, **settings: object
) -> list[str]:
    async def main() -> list[str]:
        resolver = Resolver(NameSettings(lookup=dns, **settings))  # type: ignore[arg-type]
        try:
            answers = await asyncio.gather(*(resolver.resolve(host, 80) for _ in range(times)))
            return [result["host"] for result in answers[-1]]
        finally:
            await resolver.close()

    return asyncio.run(main())


def test_the_hosts_table_is_asked_before_dns() -> None:
    dns = FakeDns(img_example=["1.1.1.1"])
    assert resolved("IMG.example.", dns=dns, hosts={"img.Example": "8.8.8.8"}) == ["8.8.8.8"]
    assert dns.asked == []


def test_the_hosts_table_does_not_open_private_addresses() -> None:
    with pytest.raises(RefusedAddressError, match=r"img.example is at 127.0.0.2.*loopback"):
        resolved("img.example", dns=FakeDns(), hosts={"img.example": "127.0.0.2"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "::1", "localhost"])
def test_literals_and_names_of_this_machine_are_refused(host: str) -> None:
    with pytest.raises(RefusedAddressError, match="not public"):
        resolved(host, dns=FakeDns(localhost=["127.0.0.1", "::1"]))


def test_private_addresses_are_allowed_when_asked_for() -> None:
    assert resolved("127.1", dns=FakeDns(), allow_private=True) == ["127.0.0.1"]


def test_a_private_address_beside_a_public_one_is_left_out() -> None:
    dns = FakeDns(rebind_example=["10.0.0.1", "1.1.1.1", "::ffff:10.0.0.1"])
    assert resolved("rebind.example", dns=dns) == ["1.1.1.1"]


def test_many_askers_make_one_question() -> None:
    dns = FakeDns(img_example=["1.1.1.1"])
    assert resolved("img.example", dns=dns, times=50) == ["1.1.1.1"]
    assert dns.asked == ["img.example"]


def test_a_failure_is_remembered_for_a_while() -> None:
    dns = FakeDns()

    async def main() -> None:
        resolver = Resolver(NameSettings(lookup=dns))
        for _ in range(3):
            with pytest.raises(socket.gaierror):
                await resolver.resolve("gone.example", 80)
        await resolver.close()

    asyncio.run(main())
    assert dns.asked == ["gone.example"]


def test_what_is_remembered_expires() -> None:
    dns = FakeDns(img_example=["1.1.1.1"])

    async def main() -> None:
        resolver = Resolver(NameSettings(lookup=dns, remember_s=0.0))
        for _ in range(2):
            await resolver.resolve("img.example", 80)
        await resolver.close()

    asyncio.run(main())
    assert dns.asked == ["img.example"] * 2


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..example"])
def test_a_name_that_dns_cannot_hold_does_not_resolve(host: str) -> None:
    def as_the_system_does(name: str) -> list[str]:
        return [name.encode("idna").decode()]

    with pytest.raises(socket.gaierror, match="not a name"):
        resolved(host, dns=as_the_system_does)


def test_a_name_without_addresses_does_not_resolve() -> None:
    with pytest.raises(socket.gaierror, match="no address"):
        resolved("empty.example", dns=FakeDns(empty_example=[]))


def test_the_wait_for_dns_is_bounded_and_closing_does_not_wait() -> None:
    release = threading.Event()

    def stuck(_name: str) -> list[str]:
        release.wait(30)
        return []

    try:
        with pytest.raises(socket.gaierror, match="no answer from DNS"):
            resolved("slow.example", dns=stuck, wait_s=0.05)
    finally:
        release.set()


def test_one_asker_that_gives_up_does_not_cost_the_others() -> None:
    release = threading.Event()

    def slow(_name: str) -> list[str]:
        release.wait(30)
        return ["1.1.1.1"]

    async def main() -> list[str]:
        resolver = Resolver(NameSettings(lookup=slow))
        first = asyncio.create_task(resolver.resolve("img.example", 80))
        second = asyncio.create_task(resolver.resolve("img.example", 80))
        await asyncio.sleep(0)
        first.cancel()
        release.set()
        found = [result["host"] for result in await second]
        await resolver.close()
        assert first.cancelled()
        return found

    assert asyncio.run(main()) == ["1.1.1.1"]
