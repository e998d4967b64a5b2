import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.urls.addresses import is_public, literal, refusal


@pytest.mark.parametrize(
    ("ip", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("169.254.169.254", "link-local or cloud metadata"),
        ("168.63.129.16", "cloud metadata"),
        ("100.100.100.200", "carrier-grade NAT"),  # another cloud's metadata
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.127.255.255", "carrier-grade NAT"),
        ("192.0.0.192", "reserved"),
        ("198.18.0.1", "benchmarking"),
        ("203.0.113.9", "documentation"),
        ("224.0.0.251", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fd00:ec2::254", "private or cloud metadata"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "documentation"),
        ("2002:7f00:1::", "6to4"),
        ("2001:0:1::1", "Teredo"),
        ("100::1", "reserved"),
        ("64:ff9b:1::7f00:1", "reserved"),
        ("::127.0.0.1", "reserved"),
        ("::ffff:127.0.0.1", "loopback inside IPv6"),
        ("::ffff:a9fe:a9fe", "link-local or cloud metadata inside IPv6"),
        ("64:ff9b::10.0.0.1", "private inside IPv6"),
    ],
)
def test_what_is_not_public_is_refused_with_its_reason(ip: str, why: str) -> None:
    assert refusal(ip) == why
    assert not is_public(ip)


@pytest.mark.parametrize(
    "ip",
    [
        "1.1.1.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "64:ff9b::8.8.8.8",
        "::ffff:8.8.8.8",
    ],
)
def test_public_addresses_pass(ip: str) -> None:
    assert refusal(ip) is None


@pytest.mark.parametrize(
    "spelled",
    [
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f.1",
        "0X7F000001",
        "017700000001",
        "0177.0.0.1",
        "0x7f.0x0.0x0.0x1",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
    ],
)
def test_odd_spellings_of_loopback_are_loopback(spelled: str) -> None:
    assert not is_public(spelled)
    assert literal(spelled) is not None


@pytest.mark.parametrize(
    "name", ["example.org", "localhost", "0x7f.example", "1.2.3.4.5", "", "127.0.0.1 x", "face"]
)
def test_names_are_no_literals_and_no_public_addresses(name: str) -> None:
    assert literal(name) is None
    assert refusal(name) == "not an address"


@given(st.ip_addresses(v=4))
def test_ipv4_inside_ipv6_is_judged_as_itself(address: object) -> None:
    for wrapped in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert is_public(wrapped) == is_public(str(address))


@given(st.ip_addresses())
def test_everything_we_allow_the_standard_library_calls_global(address: object) -> None:
    text = str(address)
    if is_public(text) and not text.startswith("64:ff9b:"):
        assert literal(text).is_global or "::ffff" in text  # type: ignore[union-attr]


@given(st.ip_addresses(v=4))
def test_the_spelling_does_not_matter(address: object) -> None:
    number = int(address)  # type: ignore[call-overload]
    for spelled in (str(number), hex(number), f"0{number:o}"):
        assert str(literal(spelled)) == str(address)
