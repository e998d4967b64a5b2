"""What goes wrong with a request, as httpx's exceptions, with subclasses for words of `ErrorClass`.

httpx.ConnectError
├── UnresolvedError       the name does not resolve
├── PrivateAddressError   the host is at no address that may be connected to
├── NoContactError        the host is public, and our User-Agent does not say who asks
├── TlsError              the certificate or the handshake is not accepted
│   └── ExpiredError, WrongNameError, SelfSignedError
└── ExhaustedError        this machine has nothing left to connect with
    └── ProxyError        the proxy is not there, or lets nobody through
"""

import errno
import socket
import ssl

import aiohttp
import httpx
from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError

from distributed_downloader.wire.resolving import AnonymousError, RefusedAddressError

_OUR_OWN_FAULT = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
)

NO_PASSWORD = 407  # Proxy Authentication Required


class UnresolvedError(httpx.ConnectError):
    """The name does not resolve."""


class PrivateAddressError(httpx.ConnectError):
    """The host is at no address that may be connected to."""


class NoContactError(httpx.ConnectError):
    """The host is public, and our User-Agent does not say who asks."""


class TlsError(httpx.ConnectError):
    """The certificate or the handshake is not accepted."""


class ExpiredError(TlsError):
    """The certificate is no longer valid, or not yet."""


class WrongNameError(TlsError):
    """The certificate is valid, for other hosts."""


class SelfSignedError(TlsError):
    """The certificate is signed by itself, or by an authority that is."""


_VERIFY_CODES: dict[int, type[TlsError]] = {  # X509_V_ERR_* of OpenSSL's x509_vfy.h
    9: ExpiredError,
    10: ExpiredError,
    18: SelfSignedError,
    19: SelfSignedError,
    62: WrongNameError,
    64: WrongNameError,
}


class ExhaustedError(httpx.ConnectError):
    """This machine has no file descriptor, port or memory left: not the server's fault."""


class ProxyError(ExhaustedError):
    """The way out of here is closed: not the server's fault either."""


def mapped(error: Exception, request: httpx.Request) -> httpx.RequestError:
    """The httpx exception that says what happened; its text is untrusted."""
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return ProxyError(f"{error.host}:{error.port}: {error.os_error}", request=request)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return of_proxy(error.status, request)
    if isinstance(error, RefusedAddressError | AnonymousError):  # judged for a proxy
        return _of_connecting(error)(str(error), request=request)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _of_connecting(error.os_error)(str(error.os_error), request=request)
    told = error.__cause__ or error
    return _of_talking(error)(str(told) or type(told).__name__, request=request)


def of_proxy(status: int, request: httpx.Request) -> httpx.RequestError:
    """What a proxy says instead of connecting us: for want of a password, or because it cannot."""
    kind = ProxyError if status == NO_PASSWORD else httpx.ConnectError
    return kind(f"the proxy answered {status}", request=request)


def _of_connecting(error: OSError) -> type[httpx.RequestError]:
    if isinstance(error, RefusedAddressError):
        return PrivateAddressError
    if isinstance(error, AnonymousError):
        return NoContactError
    if isinstance(error, socket.gaierror):
        return UnresolvedError
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_CODES.get(error.verify_code, TlsError)
    if isinstance(error, ssl.SSLError):
        return TlsError
    return ExhaustedError if error.errno in _OUR_OWN_FAULT else httpx.ConnectError


def _of_talking(error: Exception) -> type[httpx.RequestError]:
    cut_short = isinstance(error.__cause__, ContentLengthError | TransferEncodingError)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx.ConnectTimeout
    if isinstance(error, TimeoutError):
        return httpx.ReadTimeout
    if isinstance(error, aiohttp.ClientConnectionError | OSError) or cut_short:
        return httpx.ReadError
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | ValueError):
        return httpx.LocalProtocolError
    return httpx.RemoteProtocolError
