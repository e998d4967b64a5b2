"""Where a redirect leads, if it leads anywhere that we may ask (RFC 9110 10.2.2, 15.4)."""

from collections.abc import Container
from urllib.parse import urljoin, urlsplit

import httpx

from distributed_downloader.records import ErrorClass, Failed
from distributed_downloader.urls.authorities import without_credentials
from distributed_downloader.urls.normalise import Normalised, normalise_url
from distributed_downloader.wire.reading import quoted

REDIRECTS = frozenset({301, 302, 303, 307, 308})


def next_url(
    url: str, response: httpx.Response, seen: Container[str], *, is_last: bool
) -> str | Failed:
    """The absolute http(s) URL that a redirect points to, or why it is not followed."""
    status = response.status_code
    location = next(iter(response.headers.get_list("location")), "")  # of several, the first
    target = _target(url, location)
    if target is None:
        told = quoted(without_credentials(location))
        message = f"HTTP {status} to {told}, which is no http(s) URL"
        return Failed(ErrorClass.REDIRECT_INVALID, status, message, False, url)
    if target in seen:
        message = f"HTTP {status} back to {quoted(target)}"
        return Failed(ErrorClass.REDIRECT_LOOP, status, message, False, url)
    if is_last:
        message = f"HTTP {status} to {quoted(target)}: too many redirects"
        return Failed(ErrorClass.REDIRECT_LOOP, status, message, False, url)
    return target


def _target(url: str, location: str) -> str | None:
    location = location.strip()
    if not location:
        return None
    try:
        target = urljoin(url, location).split("#", 1)[0]
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return None
    except ValueError:  # a broken IPv6 literal
        return None
    normal = normalise_url(target)
    return normal.url if isinstance(normal, Normalised) else None
