"""The closed lists of words, and quantities, as a person reads them."""

from datetime import UTC, datetime

from distributed_downloader.records import ErrorClass, State

STATES = {
    State.OK: "image stored",
    State.DUPLICATE: "same URL as another row",
    State.REJECTED: "no URL that can be fetched, or not selected",
    State.FAILED_FINAL: "failed, given up",
    State.FAILED_RETRYABLE: "failed, will be tried again",
    State.REFUSED: "robots.txt, a header or the address guard says no",
    State.IGNORED: "the server is in the ignored table",
    State.REMOVED: "removed by a tool",
    State.PENDING: "not asked yet",
}

CLASSES = {
    ErrorClass.DNS: "the server's name does not exist",
    ErrorClass.CONNECT: "nobody answers at the server's address",
    ErrorClass.TLS: "the server's certificate or handshake is not accepted",
    ErrorClass.TLS_EXPIRED: "the server's certificate has expired",
    ErrorClass.TLS_WRONG_NAME: "the server's certificate is for other names",
    ErrorClass.TLS_SELF_SIGNED: "the server's certificate is signed by itself",
    ErrorClass.RESET: "the connection broke off",
    ErrorClass.TIMEOUT: "no whole answer in time",
    ErrorClass.TOO_SLOW: "the answer dripped too slowly",
    ErrorClass.PROTOCOL: "the answer is not HTTP",
    ErrorClass.NOT_FOUND: "not found (404, 410)",
    ErrorClass.FORBIDDEN: "not allowed (401, 403, 451)",
    ErrorClass.RATE_LIMITED: "too many requests (429)",
    ErrorClass.SERVER_ERROR: "the server has a fault (5xx)",
    ErrorClass.HTTP_OTHER: "another status than an image has",
    ErrorClass.REDIRECT_LOOP: "redirects in a loop, or too many",
    ErrorClass.REDIRECT_INVALID: "redirects to nowhere",
    ErrorClass.REDIRECT_ELSEWHERE: "redirects to another server, asked in the next wave",
    ErrorClass.TOO_LARGE: "larger than images.max_bytes",
    ErrorClass.NOT_AN_IMAGE: "a page or text, not an image",
    ErrorClass.UNSUPPORTED_FORMAT: "an image format that is not taken",
    ErrorClass.TOO_MANY_PIXELS: "more pixels than images.max_pixels",
    ErrorClass.TOO_COSTLY: "takes too much memory or time to decode",
    ErrorClass.DECODER_CRASHED: "makes its decoder crash",
    ErrorClass.CORRUPT_IMAGE: "the image is damaged",
    ErrorClass.HASH_MISMATCH: "not the image that the list promised (hash)",
    ErrorClass.PRIVATE_ADDRESS: "leads to a private address",
    ErrorClass.NO_CONTACT: "leads to a public server, and our User-Agent names no contact",
    ErrorClass.ROBOTS_DISALLOWED: "robots.txt says no",
    ErrorClass.ROBOTS_UNREACHABLE: "robots.txt could not be read, so not asked",
    ErrorClass.OPTED_OUT: "the image's headers say no",
    ErrorClass.SERVER_DOWN: "the server did not answer others, so not asked",
    ErrorClass.INTERNAL: "a fault of this program, see the log",
}

SETTINGS = {  # what changes a refusal
    ErrorClass.ROBOTS_DISALLOWED: "politeness.robots",
    ErrorClass.OPTED_OUT: "politeness.opt_out_headers",
    ErrorClass.NO_CONTACT: "downloader_parameters.header",
    ErrorClass.PRIVATE_ADDRESS: "politeness.allow_private_addresses",
}


def one_line(text: str) -> str:
    """The text with line breaks and control characters written as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def why(error_class: str | None) -> str:
    """What a word of `error_class` means; a reason that is none of them, as it is."""
    if error_class in CLASSES:
        return CLASSES[ErrorClass(error_class)]
    return (error_class or "no reason recorded").replace("_", " ")


def count(number: float, word: str = "") -> str:
    """`1,234 images`; the word in the singular is given, and gets its s, or es."""
    text = f"{number:,.0f}"
    ending = "" if number == 1 else "es" if word.endswith(("ch", "s")) else "s"
    return f"{text} {word}{ending}" if word else text


def share(part: float, whole: float) -> str:
    """A percentage that says 0% and 100% only when it is."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{percent:.1f}%" if percent % 100 else f"{percent:.0f}%"


def duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3 min 20 s`, `5 h 12 min`, `116 days`."""
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    if whole < 172_800:
        minutes = round(whole / 60) % 60
        return f"{round(whole / 60) // 60} h" + (f" {minutes} min" if minutes else "")
    return f"{whole / 86_400:.0f} days"


def size(number_of_bytes: float) -> str:
    """`512 B`, `1.4 MB`: powers of ten."""
    value, units = float(number_of_bytes), iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while value >= 999.5 and unit != "PB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def moment(unix_seconds: float) -> str:
    """`2026-01-31 13:05:09 UTC`."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
