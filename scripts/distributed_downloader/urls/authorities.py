"""The part of a URL between its scheme and its path: a host, perhaps a port.

Host names are lower case and in IDNA's ASCII form (IDNA 2008 with the mapping of UTS 46), IPv6
addresses in brackets and in the short form of RFC 5952.
"""

import ipaddress
import re
from functools import lru_cache

import idna

from distributed_downloader.urls.words import Reason, Repair, UnfetchableError

MAX_HOST = 253  # characters, RFC 1035
DEFAULT_PORTS = {"http": 80, "https": 443}
FILE_EXTENSIONS = frozenset(  # never a top-level domain: a host that ends so is a file's name
    """
    jpg jpeg jpe jp2 png gif tif tiff bmp webp svg heic dng nef cr2 arw html htm xhtml php asp aspx
    jsp cgi pdf doc docx xls xlsx ppt txt csv tsv json xml mp3 mp4 avi wav
    """.split()  # noqa: SIM905 (a list of words reads better so)
)
# White space, control characters and invisible spaces, which copying puts around a URL.
EDGES = (
    "".join(map(chr, range(33)))
    + "\x7f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"
    + ("".join(map(chr, range(0x2000, 0x200E))))
)

CREDENTIALS = r"[/\\]{2}\s*[^/?#\\\s]*@"  # for re and for polars

_HOST_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")


def split_authority(authority: str, scheme: str, repairs: list[Repair]) -> tuple[str, str]:
    """Host, and `:port` or nothing; only the scheme's own port goes (the scheme "" has none)."""
    _, at, place = authority.rpartition("@")
    if at:
        repairs.append(Repair.CREDENTIALS)
    stripped = place.strip(EDGES)
    if stripped != place:
        repairs.append(Repair.TRIMMED)
    if stripped.startswith("["):
        inside, closed, after = stripped[1:].partition("]")
        if not closed or (after and not after.startswith(":")):
            raise UnfetchableError(Reason.BAD_HOST, stripped[:200])
        return f"[{_ipv6(inside, repairs)}]", _port(after, scheme, repairs)
    name, colon, digits = stripped.partition(":")
    return _host(name, repairs), _port(colon + digits, scheme, repairs)


def without_credentials(text: str) -> str:
    """Text of strangers without the names and passwords that URLs in it carry."""
    return re.sub(CREDENTIALS, "//", text)


def _port(text: str, scheme: str, repairs: list[Repair]) -> str:
    digits = text[1:]
    if not digits:
        if text:
            repairs.append(Repair.DEFAULT_PORT)
        return ""
    if not (digits.isascii() and digits.isdigit()) or len(digits.lstrip("0")) > 5:
        raise UnfetchableError(Reason.BAD_PORT, digits[:200])
    port = int(digits)
    if not 0 < port < 65536:
        raise UnfetchableError(Reason.BAD_PORT, digits[:200])
    if port == DEFAULT_PORTS.get(scheme):
        repairs.append(Repair.DEFAULT_PORT)
        return ""
    if digits != str(port):
        repairs.append(Repair.PORT_REWRITTEN)
    return f":{port}"


def _ipv6(text: str, repairs: list[Repair]) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise UnfetchableError(Reason.BAD_HOST, text[:200]) from None
    if address.scope_id is not None:
        raise UnfetchableError(Reason.BAD_HOST, text[:200])
    if text != str(address):
        repairs.append(Repair.HOST_REWRITTEN)
    return str(address)


def _host(name: str, repairs: list[Repair]) -> str:
    host = name
    if not host.isascii():
        host = _ascii_host(host)
        repairs.append(Repair.IDNA)
    if host != host.lower():
        host = host.lower()
        repairs.append(Repair.LOWER_CASED)
    if host.endswith("."):
        host = host[:-1]
        repairs.append(Repair.HOST_REWRITTEN)
    if not host:
        raise UnfetchableError(Reason.NO_HOST)
    if len(host) > MAX_HOST or not _HOST_NAME.fullmatch(host) or not _is_real(host):
        raise UnfetchableError(Reason.BAD_HOST, name[:200])
    return host


def _ascii_host(host: str) -> str:
    if len(host) > MAX_HOST:
        raise UnfetchableError(Reason.BAD_HOST, host[:200])
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except ValueError:  # UnicodeError, and with it IDNAError, is one
        raise UnfetchableError(Reason.BAD_HOST, host[:200]) from None


def _is_real(host: str) -> bool:
    """No name of a file or scheme; a host that ends in a number is a dotted IPv4 address.

    (`127.1` and `0x7f000001` are addresses to some resolvers: a way around the address guard.)
    """
    _, dot, last = host.rpartition(".")
    if last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last):
        try:
            return str(ipaddress.IPv4Address(host)) == host
        except ValueError:
            return False
    return not (dot and last in FILE_EXTENSIONS) and host not in DEFAULT_PORTS


@lru_cache(maxsize=100_000)
def host_of(server: str) -> str:
    """The name in lower case without port and brackets: `[::1]:8080` -> `::1`."""
    server = server.strip().lower()
    if server.startswith("["):
        return server[1:].partition("]")[0]
    if server.count(":") == 1:
        server = server.partition(":")[0]
    return server.rstrip(".")
