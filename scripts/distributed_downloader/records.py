"""What flows through a rank: rows in, outcomes out, and the closed lists of words for both."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from distributed_downloader.paths import Batch


class State(StrEnum):
    """The ledger's words: for every input row exactly one."""

    OK = "ok"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    FAILED_FINAL = "failed_final"
    FAILED_RETRYABLE = "failed_retryable"
    REFUSED = "refused_by_policy"
    IGNORED = "ignored"
    REMOVED = "removed"
    PENDING = "pending"


FINAL_STATES = frozenset(State) - {State.PENDING, State.FAILED_RETRYABLE}


class ErrorClass(StrEnum):
    """Why a row has no image: the words of `errors.parquet`."""

    DNS = "dns"  # the name does not resolve
    CONNECT = "connect"  # nobody answers at the address
    TLS = "tls"  # the certificate's issuer or the handshake is not accepted
    TLS_EXPIRED = "tls_expired"  # the certificate's time is over, or has not come
    TLS_WRONG_NAME = "tls_wrong_name"  # the certificate is for other hosts
    TLS_SELF_SIGNED = "tls_self_signed"  # nobody vouches for the certificate
    RESET = "reset"  # the connection ended before the answer did
    TIMEOUT = "timeout"  # the total deadline of the request passed
    TOO_SLOW = "too_slow"  # under timeouts.min_bytes_per_s
    PROTOCOL = "protocol"  # what came is not HTTP, or breaks its framing
    NOT_FOUND = "not_found"  # 404, 410
    FORBIDDEN = "forbidden"  # 401, 403, 451
    RATE_LIMITED = "rate_limited"  # 429
    SERVER_ERROR = "server_error"  # 5xx
    HTTP_OTHER = "http_other"  # any other status that is no image
    REDIRECT_LOOP = "redirect_loop"  # the same target twice, or too many hops
    REDIRECT_INVALID = "redirect_invalid"  # no Location, or one that is no http(s) URL
    REDIRECT_ELSEWHERE = "redirect_elsewhere"  # target of another rank's group: next wave (pending)
    TOO_LARGE = "too_large"  # over images.max_bytes
    NOT_AN_IMAGE = "not_an_image"  # HTML, XML, text, empty
    UNSUPPORTED_FORMAT = "unsupported_format"  # an image, of a format that is not allowed
    TOO_MANY_PIXELS = "too_many_pixels"  # over images.max_pixels
    TOO_COSTLY = "too_costly"  # decoding it takes over images.max_decoder_bytes, or too long
    DECODER_CRASHED = "decoder_crashed"  # twice, each time in a new process
    CORRUPT_IMAGE = "corrupt_image"  # starts as an image, cannot be decoded
    HASH_MISMATCH = "hash_mismatch"  # not the hash that the list promised
    PRIVATE_ADDRESS = "private_address"  # policy: loopback, private, link-local, ...
    NO_CONTACT = "no_contact"  # a public server, and our User-Agent names no contact: not now
    ROBOTS_DISALLOWED = "robots_disallowed"  # policy: robots.txt says no
    ROBOTS_UNREACHABLE = "robots_unreachable"  # robots.txt answers 5xx or not at all: not now
    OPTED_OUT = "opted_out"  # policy: the answer's own headers say no
    SERVER_DOWN = "server_down"  # not asked: the group's breaker is open
    INTERNAL = "internal"  # a fault of ours, with its message


POLICY_CLASSES = frozenset(
    {ErrorClass.PRIVATE_ADDRESS, ErrorClass.ROBOTS_DISALLOWED, ErrorClass.OPTED_OUT}
)

NETWORK_CODE = -1  # error_code of a failed connection
CONTENT_CODE = -2  # error_code of a bad image, of policy and of internal errors


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of an image that is asked for again."""

    etag: str | None
    last_modified: str | None
    hashsum_original: str

    @property
    def conditions(self) -> dict[str, str]:
        """Request fields that ask for it only if it has changed (RFC 9110, section 13.1).

        A validator of other than printable ASCII cannot be sent: the image is fetched anew.
        """
        fields = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {
            name: value
            for name, value in fields.items()
            if value and value.isascii() and value.isprintable()
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One URL to fetch in this wave."""

    uuid: str
    source_id: str | None
    identifier: str  # the normalised URL
    server: str
    batch: Batch
    waves_tried: int = 0  # waves that ended with a retryable failure of this row
    target: str | None = None  # where an earlier wave's redirect pointed to
    meta: dict[str, str | None] = field(default_factory=dict)  # license, source, title, hash, ...
    known: Known | None = None  # the image that it has; it stays unless another one comes


@dataclass(frozen=True, slots=True)
class Fetched:
    """A 200 with its whole body."""

    body: bytes
    status: int
    final_url: str
    content_type: str | None
    etag: str | None
    last_modified: str | None
    latency_s: float  # until the headers of the last hop


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A 304, or a body that is stored already: the image is what it was."""

    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """One attempt that brought no body. `error_code` as in errors.parquet."""

    error_class: ErrorClass
    error_code: int
    error_msg: str
    retryable: bool
    final_url: str | None = None
    costs_a_try: bool = True  # False: the group was stopped, the row is not to blame
    is_over_for_now: bool = False  # another try in this wave would not even be sent
    was_sent: bool = True  # False: held back in time, no server has seen it; asked for anew


@dataclass(frozen=True, slots=True)
class Redirected:
    """The answer points to a group that another rank owns: the next wave asks there."""

    target: str


Outcome = Fetched | Unchanged | Failed | Redirected


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image as it will be stored."""

    data: bytes
    original: bytes | None  # only with images.keep_original
    hashsum_original: str  # MD5 hex of the bytes received
    hashsum_resized: str  # MD5 hex of the bytes stored
    original_size: tuple[int, int]  # (height, width), upright
    resized_size: tuple[int, int]
    exif: str | None  # JSON text
    warnings: str | None = None  # what its decoder complained about


@dataclass(frozen=True, slots=True)
class Try:
    """A row about to be asked, and what was already spent on it in this wave."""

    row: Row
    number: int = 1  # of this try, counted ones only
    requests: int = 0  # tries that were sent, counted or not

    def again(self, *, counted: bool, sent: bool = True) -> "Try":
        """The next try of the same row."""
        return replace(self, number=self.number + counted, requests=self.requests + sent)
