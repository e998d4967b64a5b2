"""What an attempt without an image comes to: the word for each status, delay and exception."""

from http import HTTPStatus

import httpx

from distributed_downloader.records import CONTENT_CODE, NETWORK_CODE, ErrorClass, Failed
from distributed_downloader.wire.failures import (
    ExhaustedError,
    ExpiredError,
    NoContactError,
    PrivateAddressError,
    SelfSignedError,
    TlsError,
    UnresolvedError,
    WrongNameError,
)
from distributed_downloader.wire.reading import FetchLimits, quoted

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def classify_status(status: int) -> tuple[ErrorClass, bool]:
    """The word for a status other than 200, and whether another try may bring something else."""
    if status in {404, 410}:
        return ErrorClass.NOT_FOUND, False
    if status in {401, 403, 451}:
        return ErrorClass.FORBIDDEN, False
    if status == 429:
        return ErrorClass.RATE_LIMITED, True
    if 500 <= status <= 599:
        return ErrorClass.SERVER_ERROR, True
    return ErrorClass.HTTP_OTHER, status in {408, 425}


def refused(url: str, status: int) -> Failed:
    """The server answered, and not with what was asked for."""
    error_class, retryable = classify_status(status)
    phrase = _PHRASES.get(status, "(no known status)")  # ours: the server's own is untrusted
    return Failed(error_class, status, f"HTTP {status} {phrase}", retryable, final_url=url)


def late(url: str, nbytes: int, limits: FetchLimits, *, is_too_slow: bool) -> Failed:
    """The deadline passed, or the body (so many bytes until then) came slower than allowed."""
    if is_too_slow:
        error_class = ErrorClass.TOO_SLOW
        message = f"under {limits.min_bytes_per_s:g} bytes/s, {nbytes} bytes had come"
    else:
        error_class = ErrorClass.TIMEOUT
        message = f"the deadline passed, {nbytes} bytes had come"
    return Failed(error_class, NETWORK_CODE, message, retryable=True, final_url=url)


# The first that fits, so the narrow ones come first.
_NETWORK_WORDS: tuple[tuple[type[Exception], ErrorClass], ...] = (
    (UnresolvedError, ErrorClass.DNS),
    (ExpiredError, ErrorClass.TLS_EXPIRED),
    (WrongNameError, ErrorClass.TLS_WRONG_NAME),
    (SelfSignedError, ErrorClass.TLS_SELF_SIGNED),
    (TlsError, ErrorClass.TLS),
    (httpx.ConnectError, ErrorClass.CONNECT),
    (httpx.ConnectTimeout, ErrorClass.CONNECT),
    (httpx.TimeoutException, ErrorClass.TIMEOUT),
    (httpx.NetworkError, ErrorClass.RESET),
    (httpx.HTTPError, ErrorClass.PROTOCOL),
)


def failed(url: str, error: httpx.HTTPError | httpx.InvalidURL) -> Failed:
    """The value for an exception of the client's."""
    message = f"{type(error).__name__}: {quoted(str(error))}"
    if isinstance(error, PrivateAddressError):
        return Failed(ErrorClass.PRIVATE_ADDRESS, CONTENT_CODE, message, False, url)
    if isinstance(error, NoContactError):
        return Failed(ErrorClass.NO_CONTACT, CONTENT_CODE, message, True, url, is_over_for_now=True)
    if isinstance(error, httpx.InvalidURL | httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return Failed(ErrorClass.INTERNAL, CONTENT_CODE, message, False, url)
    if isinstance(error, ExhaustedError):
        return Failed(ErrorClass.INTERNAL, CONTENT_CODE, message, True, url, costs_a_try=False)
    word = next(word for kind, word in _NETWORK_WORDS if isinstance(error, kind))
    return Failed(word, NETWORK_CODE, message, True, url)
