"""What a fleet is asked to be: hosts with their pace, faults and tricks, as values and as JSON."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from distributed_downloader.errors import ConfigError
from distributed_downloader.fleet.photos import photo_spec


class Trick(StrEnum):
    """What a URL answers instead of its image."""

    NOT_FOUND = "not_found"  # 404
    GONE = "gone"  # 410
    FORBIDDEN = "forbidden"  # 403
    SERVER_ERROR = "server_error"  # 500
    HTML = "html"  # 200, a page, and says so
    DISGUISED = "disguised"  # 200, a page that says it is image/jpeg
    EMPTY = "empty"  # 200, no byte
    TRUNCATED = "truncated"  # the connection ends in the middle of the body
    CORRUPT = "corrupt"  # the framing is right, the image is cut
    BOMB = "bomb"  # a small PNG of 400 megapixels
    OPT_OUT = "opt_out"  # the image, with X-Robots-Tag: noai
    REDIRECT = "redirect"  # 302 to `to`
    LOOP = "loop"  # 302 to itself, by way of another URL
    ENDLESS = "endless"  # 302 to ever new URLs
    HANG = "hang"  # the request is read and never answered
    DRIP = "drip"  # 20 bytes a second
    RESET = "reset"  # the connection ends before the answer
    GARBAGE = "garbage"  # not HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class Special:
    """Some URLs of a host that do not simply bring their image.

    `share` of the host's images (drawn by name, each image has one trick at most) and `paths`.
    `to` is where a redirect points: `{name}`, `{index}` and `{port}` are filled in.
    """

    trick: Trick
    share: float = 0.0
    paths: tuple[str, ...] = ()
    to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """One host: `images` photos at `<folder>/<number>.<suffix>`, and how it behaves.

    An image is also served under every other folder, so that redirects have somewhere to go.
    Every request counts against the pace, robots.txt and refused ones included.
    """

    name: str
    address: str  # 127.x.y.z
    images: int = 10
    photos: str = "real"  # real | small | tiny
    folder: str = "/photos"
    group: str = ""  # hosts of one group share one pace; the name itself when empty

    rate: float | None = None  # requests per second; None = any
    burst: float = 0.0  # as nginx: how many may come early; beyond it `refusal_status`
    refusal_status: int = 429
    retry_after_s: float | None = None  # sent with refusals and failures; None = no header
    retry_after_as_date: bool = False
    latency_s: float = 0.0  # before the headers
    bytes_per_s: float | None = None

    listens: bool = True  # False: the connection is refused
    answers: bool = True  # False: it accepts, and never answers
    fails_first: int = 0  # requests of each URL that fail before it works
    recovers_after_requests: int = 0  # requests that fail before the host works
    recovers_after_s: float = 0.0  # seconds since its first request, while the host fails
    failure_status: int = 503  # robots.txt does not fail with the rest: see robots_status

    robots: str | None = None  # text of robots.txt; None = 404
    robots_status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)  # of every image
    specials: tuple[Special, ...] = ()

    @property
    def pace_group(self) -> str:
        """The name under which requests are counted."""
        return self.group or self.name

    def photo_name(self, index: int) -> str:
        """File name of the image of this number, e.g. `00007.jpg`."""
        return f"{index:05d}.{photo_spec(self.photo_key(index), self.photos).suffix}"

    def photo_key(self, index: int) -> str:
        """The name from which the photo itself is made."""
        return f"{self.name}/{index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """All hosts, on one port (0 = any free one)."""

    hosts: tuple[HostPlan, ...]
    port: int = 0

    def to_json(self) -> str:
        """The plan as JSON text, with every setting."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "FleetPlan":
        """The plan of this JSON text; ConfigError if it says something that no plan has."""
        try:
            raw = json.loads(text)
            return cls(hosts=tuple(_host(host) for host in raw["hosts"]), port=raw.get("port", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"This is no plan of a fleet: {error}. See fleet/plan.py.") from error


def _host(raw: dict[str, Any]) -> HostPlan:
    specials = tuple(
        Special(**{**special, "trick": Trick(special["trick"]), "paths": tuple(special["paths"])})
        for special in ({"paths": (), **special} for special in raw.get("specials", ()))
    )
    return HostPlan(**{**raw, "specials": specials})
