"""From what stands in a list to a URL that can be asked for, and the server it belongs to.

The rules, in their order (RFC 3986; how browsers read sloppy URLs, where the RFC is silent):
1. white space, control characters and one pair of quotes or angle brackets around it go;
2. a cell with several URLs is rejected: choosing one would lose the others in silence;
3. `http` and `https` only; a missing, doubled or misspelt scheme is mended, and what has none must
   look like `host.tld/path` to be taken for a URL (it gets `http`: who wants TLS redirects);
4. backslashes before the query are slashes, as in every browser;
5. the host is lower case, in IDNA's ASCII form, an IPv6 address in its short form; a name and
   password, the scheme's own port and a dot at the end go;
6. dot segments of the path are resolved, the fragment goes, an empty path becomes `/`;
7. what RFC 3986 does not allow in a path or query is percent-encoded as UTF-8. What is legal is
   never touched: the query is significant, and so is how its characters are written.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from distributed_downloader.urls.authorities import EDGES, split_authority
from distributed_downloader.urls.words import Reason, Repair, UnfetchableError

MAX_URL_BYTES = 8000  # what RFC 9110, section 4.1, asks everyone to support


@dataclass(frozen=True, slots=True)
class Normalised:
    """A URL that can be asked for."""

    url: str
    server: str
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Text that no request can be made of; `found` is the offending piece."""

    reason: Reason
    found: str = ""


_PAIRS = {'"': '"', "'": "'", "<": ">", "\u201c": "\u201d", "\u2018": "\u2019"}
_SEVERAL = re.compile(r"[|,;\s]https?:[/\\]", re.I)
_DOUBLED = re.compile(r"https?(?::[/\\]*|[/\\]+)(?=https?(?::[/\\]|[/\\]{2}))", re.I)
_HTTP = re.compile(r"(https?)(:[/\\]*|[/\\]{2,})", re.I)
_MISSPELT = re.compile(r"(?:h+t{1,3}p{1,2}|t{1,2}p)(s?):[/\\]{2,}", re.I)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.I)
_HOST_AND_PORT = re.compile(r"[^/?#:@\\\s]+:[0-9]+(?=[/?#\\]|$)")
_BARE = re.compile(r"(?:www\.[^/?#\\@\s]+|[^/?#\\@\s]+\.[^/?#\\@\s.]+[/\\].*|//.*)", re.I | re.S)
_ILLEGAL = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]+")
_DOT_SEGMENT = re.compile(r"/\.\.?(?:/|$)")


def normalise_url(raw: str | None) -> Normalised | Rejection:
    """The URL that this text means, or why it means none. Idempotent; raises nothing."""
    repairs: list[Repair] = []
    try:
        text = _trimmed(raw or "", repairs)
        scheme, rest = _split_scheme(text, repairs)
        authority, path, query = _split_rest(rest, repairs)
        host, port = split_authority(authority, scheme, repairs)
        url = f"{scheme}://{host}{port}{_legal(path, repairs)}{_legal(query, repairs)}"
    except UnfetchableError as error:
        return Rejection(error.reason, error.found)
    if len(url) > MAX_URL_BYTES:
        return Rejection(Reason.TOO_LONG, f"{len(url)} bytes")
    return Normalised(url, host + port, tuple(dict.fromkeys(repairs)))


@lru_cache(maxsize=4096)  # the gate asks seven times for each request
def server_of(url: str) -> str:
    """`host`, or `host:port` when the port is not the scheme's own; "" for what is no URL."""
    result = normalise_url(url)
    return result.server if isinstance(result, Normalised) else ""


def _trimmed(raw: str, repairs: list[Repair]) -> str:
    text = raw.strip(EDGES)
    while len(text) > 1 and _PAIRS.get(text[0]) == text[-1]:
        text = text[1:-1].strip(EDGES)
    if not text:
        raise UnfetchableError(Reason.EMPTY)
    if len(text) > 8 * MAX_URL_BYTES:  # keeps the steps below short, whatever a cell holds
        raise UnfetchableError(Reason.TOO_LONG, f"{len(text)} characters")
    if _SEVERAL.search(text):
        raise UnfetchableError(Reason.MULTIPLE_URLS, text[:200])
    if text != raw:
        repairs.append(Repair.TRIMMED)
    return text


def _split_scheme(text: str, repairs: list[Repair]) -> tuple[str, str]:
    while doubled := _DOUBLED.match(text):
        text = text[doubled.end() :]
        repairs.append(Repair.SCHEME_DOUBLED)
    if http := _HTTP.match(text):
        if http[1] != http[1].lower():
            repairs.append(Repair.LOWER_CASED)
        if http[2].replace("\\", "/") != "://":
            repairs.append(Repair.SCHEME_MENDED)
        if "\\" in http[2]:
            repairs.append(Repair.BACKSLASHES)
        return http[1].lower(), text[http.end() :]
    if misspelt := _MISSPELT.match(text):
        repairs.append(Repair.SCHEME_MENDED)
        return "http" + misspelt[1].lower(), text[misspelt.end() :]
    return "http", _without_scheme(text, repairs)


def _without_scheme(text: str, repairs: list[Repair]) -> str:
    scheme = _SCHEME.match(text)
    if scheme and not _HOST_AND_PORT.match(text):
        known = text[scheme.end() :][:1] not in ("", " ")
        raise UnfetchableError(Reason.SCHEME if known else Reason.NOT_A_URL, scheme[1])
    bare = text.replace("\\", "/") if text.startswith("\\") else text
    if not _BARE.fullmatch(bare):
        raise UnfetchableError(Reason.NOT_A_URL, text[:200])
    repairs.append(Repair.SCHEME_ADDED)
    return bare.lstrip("/")


def _split_rest(rest: str, repairs: list[Repair]) -> tuple[str, str, str]:
    """Authority, path (with its slash) and query (with its question mark)."""
    rest, hash_sign, _ = rest.partition("#")
    if hash_sign:
        repairs.append(Repair.FRAGMENT)
    before, mark, query = rest.partition("?")
    if "\\" in before:
        repairs.append(Repair.BACKSLASHES)
        before = before.replace("\\", "/")
    authority, slash, path = before.partition("/")
    if not slash:
        repairs.append(Repair.PATH_ADDED)
    return authority, _without_dot_segments("/" + path, repairs), mark + query


def _without_dot_segments(path: str, repairs: list[Repair]) -> str:
    """RFC 3986, section 5.2.4, on a path that starts with a slash."""
    if not _DOT_SEGMENT.search(path):
        return path
    repairs.append(Repair.DOT_SEGMENTS)
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _legal(text: str, repairs: list[Repair]) -> str:
    legal = _ILLEGAL.sub(_percent_encoded, text)
    if legal != text:
        repairs.append(Repair.PERCENT_ENCODED)
    return legal


def _percent_encoded(illegal: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in illegal[0].encode("utf-8", "surrogatepass"))
