"""What answers say about when to come back: read from hostile header fields, never raising.

Retry-After: RFC 9110 10.2.3. RateLimit and RateLimit-Policy: the IETF draft (httpapi-ratelimit-
headers), in its newest form (`"default";r=0;t=30`) and the two before it; X-RateLimit-* as found.
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

EPOCH_FROM = 1_000_000_000.0  # a reset above this is a date in unix seconds, not a delay
EPOCH_MS_FROM = 1_000_000_000_000.0

_NUMBER = re.compile(r"\s*(\d{1,300}(?:\.\d{1,9})?)\s*", re.ASCII)
_PARAMETER = re.compile(r"\b(limit|remaining|reset|[qrtw])\s*=\s*(\d{1,300})", re.ASCII)


def pairs_of(headers: Headers) -> list[tuple[str, str]]:
    """Lower-case names with their values, repeated fields apart where the source has them so."""
    many = getattr(headers, "multi_items", None)  # httpx joins repeated fields elsewhere
    if many is not None:
        pairs: Iterable[tuple[str, str]] = many()
    else:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.lower(), value) for name, value in pairs]


def first_value(headers: Headers, *names: str) -> str | None:
    """The value of the first of these fields (lower case) that is there."""
    found = dict(reversed(pairs_of(headers)))
    return next((found[name] for name in names if name in found), None)


def retry_after_s(headers: Headers, wall: float, max_s: float) -> float | None:
    """Seconds that Retry-After asks for, at most `max_s`; None if absent, broken, zero or past."""
    value = first_value(headers, "retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        date = _date(value)
        seconds = None if date is None else date - wall
    return _capped(seconds, max_s)


def exhausted_s(headers: Headers, wall: float, max_s: float) -> float | None:
    """Seconds until a quota that is used up is filled again, at most `max_s`; None if it is not.

    Without a reset the window of RateLimit-Policy stands for it; without that, nothing is known.
    """
    waits = [
        _capped(_structured_wait(headers), max_s),
        _capped(_plain_wait(headers, "ratelimit", wall), max_s),
        _capped(_plain_wait(headers, "x-ratelimit", wall), max_s),
        _capped(_plain_wait(headers, "x-rate-limit", wall), max_s),
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def told_to_wait(
    status: int, headers: Headers, wall: float, max_s: float
) -> tuple[float, str] | None:
    """Seconds until the server wants to be asked again, and how it says so; None if it does not.

    Retry-After counts with any status of 300 or more: RFC 9110 names redirects and 503, RFC 6585
    429, and some services refuse with 403.
    """
    later_s = retry_after_s(headers, wall, max_s) if status >= 300 else None
    told = (
        (later_s, f"{status} with Retry-After"),
        (exhausted_s(headers, wall, max_s), "quota used up"),
    )
    return max(((seconds, how) for seconds, how in told if seconds is not None), default=None)


def _structured_wait(headers: Headers) -> float | None:
    fields = [value for name, value in pairs_of(headers) if name == "ratelimit"]
    waits = [
        _item_wait(item, headers)
        for field in fields
        for item in (field.split(",") if ";" in field else [field])  # the form before has commas
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _item_wait(item: str, headers: Headers) -> float | None:
    parameters = {key: float(value) for key, value in _PARAMETER.findall(item.lower())}
    if parameters.get("r", parameters.get("remaining")) != 0:
        return None
    return parameters.get("t", parameters.get("reset", _policy_window(headers)))


def _policy_window(headers: Headers) -> float | None:
    policy = first_value(headers, "ratelimit-policy") or ""
    windows = [float(value) for key, value in _PARAMETER.findall(policy.lower()) if key == "w"]
    return max(windows, default=None)


def _plain_wait(headers: Headers, prefix: str, wall: float) -> float | None:
    remaining = _number(first_value(headers, f"{prefix}-remaining") or "")
    if remaining is None or remaining > 0:
        return None
    reset = _number(first_value(headers, f"{prefix}-reset") or "")
    if reset is None:
        return _policy_window(headers)
    if reset >= EPOCH_MS_FROM:
        reset /= 1000
    return reset - wall if reset >= EPOCH_FROM else reset


def _number(value: str) -> float | None:
    found = _NUMBER.fullmatch(value)
    return float(found[1]) if found else None


def _date(value: str) -> float | None:
    if len(value) > 100:
        return None
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _capped(seconds: float | None, max_s: float) -> float | None:
    if seconds is None or math.isnan(seconds) or seconds <= 0:
        return None
    return min(seconds, max_s)
