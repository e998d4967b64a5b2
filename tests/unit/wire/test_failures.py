import asyncio

import httpx
import pytest

from distributed_downloader.records import CONTENT_CODE, NETWORK_CODE, ErrorClass, Failed, Outcome
from distributed_downloader.wire.failures import ExhaustedError
from distributed_downloader.wire.fetching import fetch
from tests import wire_server as wire
from tests.unit.wire.attempts import JPEG, FakeGate, attempt, limits, mocked, wire_client

GARBAGE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


@pytest.mark.parametrize(
    ("script", "error_class"),
    [
        (wire.then_closes(b""), ErrorClass.RESET),
        (wire.then_resets(b""), ErrorClass.RESET),
        (wire.then_resets(b"HTTP/1.1 200 OK\r\nContent-Le"), ErrorClass.RESET),
        (wire.then_resets(wire.reply(200, JPEG, content_length="99999")), ErrorClass.RESET),
        (wire.then_closes(wire.reply(200, JPEG, content_length="99999")), ErrorClass.RESET),
        (wire.then_closes(GARBAGE + b"5\r\nab"), ErrorClass.RESET),
        (wire.then_closes(GARBAGE + b"zz\r\n"), ErrorClass.PROTOCOL),
        (wire.in_pieces(GARBAGE, b"zz\r\n"), ErrorClass.PROTOCOL),
        (wire.then_closes(b"SSH-2.0-OpenSSH_9\r\n"), ErrorClass.PROTOCOL),
        (
            wire.then_closes(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 99_999 + b"\r\n\r\n"),
            ErrorClass.PROTOCOL,
        ),
        (
            wire.then_closes(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 999 + b"\r\n"),
            ErrorClass.PROTOCOL,
        ),
        (wire.goes_silent(), ErrorClass.TIMEOUT),
        (wire.goes_silent(b"HTTP/1.1 200 OK\r\nContent-Le"), ErrorClass.TIMEOUT),
        (wire.goes_silent(wire.reply(200, content_length="9")), ErrorClass.TIMEOUT),
        (wire.drips(b"HTTP/1.1 200 OK\r\nX: "), ErrorClass.TIMEOUT),
        (wire.drips(b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 2"), ErrorClass.PROTOCOL),
    ],
)
def test_broken_connections_are_retryable_and_asked_once(
    script: wire.Script, error_class: ErrorClass
) -> None:
    seen = attempt(script, total_s=0.5 if error_class is ErrorClass.TIMEOUT else 10.0)
    failed = seen.failed
    assert (failed.error_class, failed.error_code) == (error_class, NETWORK_CODE)
    assert failed.retryable
    assert failed.costs_a_try
    assert "\n" not in failed.error_msg
    assert len(seen.server.requests) == 1
    assert seen.gate.answer.error_class is error_class


def test_a_name_at_a_private_address_is_not_connected_to() -> None:
    names = {"allow_private": False, "lookup": lambda _: ["127.0.0.1"]}
    gate = FakeGate()

    async def main() -> Outcome:
        async with wire.serve(wire.answers(wire.reply(200, JPEG))) as server:
            async with wire_client(**names) as client:
                url = server.url(host="home.example")
                outcome = await fetch(client, url, limits=limits(), gate=gate)
            assert server.connections == 0
            return outcome

    outcome = asyncio.run(main())
    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.error_code) == (ErrorClass.PRIVATE_ADDRESS, CONTENT_CODE)
    assert not outcome.retryable
    assert gate.answer.error_class is ErrorClass.PRIVATE_ADDRESS


def test_a_public_server_is_not_asked_by_nobody_in_particular() -> None:
    names = {"allow_public": False, "lookup": lambda _: ["192.88.100.1"]}

    async def main() -> Outcome:
        async with wire_client(**names) as client:
            url = "http://museum.example/a.jpg"
            return await fetch(client, url, limits=limits(), gate=FakeGate())

    outcome = asyncio.run(main())
    assert isinstance(outcome, Failed)
    assert outcome.error_class is ErrorClass.NO_CONTACT
    assert outcome.retryable
    assert outcome.is_over_for_now


def test_names_that_do_not_resolve_and_hosts_that_do_not_answer() -> None:
    async def main() -> list[Outcome]:
        async with wire.serve(wire.answers(b"")) as server:
            pass
        async with wire_client() as client:
            urls = ["http://gone.example/a", server.url()]
            return [await fetch(client, u, limits=limits(), gate=FakeGate()) for u in urls]

    classes = [out.error_class for out in asyncio.run(main()) if isinstance(out, Failed)]
    assert classes == [ErrorClass.DNS, ErrorClass.CONNECT]


def test_what_nobody_answers_counts_for_nothing_while_we_are_cut_off() -> None:
    gate = FakeGate(cut_off=True)

    async def main() -> Outcome:
        async with wire_client() as client:
            return await fetch(client, "http://gone.test/1", limits=limits(), gate=gate)

    failed = asyncio.run(main())
    assert isinstance(failed, Failed)
    assert failed.error_class is ErrorClass.DNS
    assert (failed.costs_a_try, failed.was_sent) == (False, False)
    assert (gate.answer.status, gate.answer.error_class) == (None, None)


def test_an_answer_counts_whatever_the_network_does() -> None:
    assert attempt(wire.answers(wire.reply(500)), gate=FakeGate(cut_off=True)).failed.costs_a_try


def test_a_bad_certificate_is_a_tls_error() -> None:
    gate = FakeGate()

    async def main() -> Outcome:
        async with wire.serve(wire.answers(b""), tls=True) as server, wire_client() as client:
            return await fetch(client, server.url(), limits=limits(), gate=gate)

    outcome = asyncio.run(main())
    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.error_code) == (ErrorClass.TLS_SELF_SIGNED, NETWORK_CODE)


@pytest.mark.parametrize(
    ("error", "error_class", "retryable", "costs_a_try"),
    [
        (httpx.ConnectTimeout("x"), ErrorClass.CONNECT, True, True),
        (httpx.ReadTimeout("x"), ErrorClass.TIMEOUT, True, True),
        (httpx.PoolTimeout("x"), ErrorClass.TIMEOUT, True, True),
        (httpx.WriteError("x"), ErrorClass.RESET, True, True),
        (httpx.RemoteProtocolError("x"), ErrorClass.PROTOCOL, True, True),
        (httpx.LocalProtocolError("x"), ErrorClass.INTERNAL, False, True),
        (httpx.InvalidURL("x"), ErrorClass.INTERNAL, False, True),
        (ExhaustedError("Too many open files"), ErrorClass.INTERNAL, True, False),
    ],
)
def test_what_the_client_raises_becomes_a_value(
    error: Exception, error_class: ErrorClass, retryable: bool, costs_a_try: bool
) -> None:
    outcome = mocked(error)
    assert isinstance(outcome, Failed)
    found = (outcome.error_class, outcome.retryable, outcome.costs_a_try)
    assert found == (error_class, retryable, costs_a_try)


def test_untrusted_text_is_quoted_on_one_bounded_line() -> None:
    outcome = mocked(httpx.RemoteProtocolError("evil\r\n\x1b[31m\u202e" + "x" * 5000))
    assert isinstance(outcome, Failed)
    assert outcome.error_msg.isprintable()
    assert len(outcome.error_msg) < 300
