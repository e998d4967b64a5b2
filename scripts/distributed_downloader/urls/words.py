"""The closed lists of words about URLs: what was mended, and why one cannot be fetched."""

from enum import StrEnum


class Repair(StrEnum):
    """What was changed in a URL."""

    TRIMMED = "trimmed"
    SCHEME_ADDED = "scheme_added"
    SCHEME_DOUBLED = "scheme_doubled"
    SCHEME_MENDED = "scheme_mended"  # misspelt, or its colon and slashes
    BACKSLASHES = "backslashes"
    CREDENTIALS = "credentials"  # a name and password: never sent, never stored
    LOWER_CASED = "lower_cased"
    IDNA = "idna"
    HOST_REWRITTEN = "host_rewritten"  # a dot at its end, a long IPv6 address
    DEFAULT_PORT = "default_port"
    PORT_REWRITTEN = "port_rewritten"  # zeros before the number
    PATH_ADDED = "path_added"
    DOT_SEGMENTS = "dot_segments"
    FRAGMENT = "fragment"
    PERCENT_ENCODED = "percent_encoded"


class Reason(StrEnum):
    """Why a row cannot be fetched: the words of `rejected.parquet`."""

    EMPTY = "empty"
    NOT_A_URL = "not_a_url"
    MULTIPLE_URLS = "multiple_urls"
    SCHEME = "scheme"  # neither http nor https
    NO_HOST = "no_host"
    BAD_HOST = "bad_host"  # no host can be called so; file names among them
    BAD_PORT = "bad_port"
    TOO_LONG = "too_long"
    NOT_SELECTED = "not_selected"  # `initializer_type` does not keep such rows
    SERVER_DENIED = "server_denied"  # by filters.servers or filters.servers_excluded
    LICENSE_DENIED = "license_denied"  # by filters.licenses
    ROW_DENIED = "row_denied"  # by filters.where
    BAD_UUID = "bad_uuid"  # over 200 bytes, or control characters in it
    UUID_REPEATED = "uuid_repeated"  # a fetchable row before it has the uuid


class UnfetchableError(Exception):
    """Leaves the steps of `urls` early; never seen outside of it."""

    def __init__(self, reason: Reason, found: str = "") -> None:
        super().__init__(reason, found)
        self.reason = reason
        self.found = found
