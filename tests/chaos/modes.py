"""Every way of being a bad server by its name, and what may become of each of its rows.

A mode is a host of its own, so that what it costs is seen: its good rows must end with their image
whatever its bad ones do, and a bad one with its own error class ("" stands for the image).

1. What a fleet can be: hosts that are slow, strict, dead, and tricks that a URL may play.
2. What only the bare wire can say: `wire_modes`, and certificates.
3. Images of bad formats, broken, or larger than they look, from the codec's own corpus.
4. Ways to addresses that are not public, for runs behind a proxy with the address guard on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distributed_downloader.fleet.plan import HostPlan, Special, Trick
from distributed_downloader.fleet.running import image_paths
from distributed_downloader.fleet.site import specials_by_path
from distributed_downloader.records import ErrorClass
from tests.wire_modes import MODES as WIRE
from tests.wire_server import CERTIFICATE, EXPIRED, STRANGER

IMAGE = frozenset({""})
ROWS = 3  # of a mode that is tried on one of them
PLAIN = "plain"
GOOD = ("/good-1.jpg", "/good-2.jpg")
INSIDE = "10.0.0.1"  # where `inside.test` is said to be
PRIVATE = (  # none of these may be asked, named by a list or by a redirect
    *("http://10.0.0.1/1.jpg", "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/1"),
    *("http://[::1]:{port}/1", "http://[::ffff:127.0.0.1]:{port}/1", "http://[fd00:ec2::254]/1"),
    *("http://[64:ff9b::7f00:1]/1", "http://0.0.0.0:{port}/1", "http://168.63.129.16/1"),
    *("http://inside.test/1", "http://a.test@10.0.0.1/1", "http://10.0.0.1\\@a.test/1"),
)
NO_HOSTS = ("http://127.1:{port}/1", "http://2130706433:{port}/1", "http://0x7f.1:{port}/1")

Words = frozenset[str]  # error classes that may come of a row


def _words(*words: ErrorClass) -> Words:
    return frozenset(word.value for word in words)


TRICKS = {
    Trick.NOT_FOUND: _words(ErrorClass.NOT_FOUND),
    Trick.GONE: _words(ErrorClass.NOT_FOUND),
    Trick.FORBIDDEN: _words(ErrorClass.FORBIDDEN),
    Trick.SERVER_ERROR: _words(ErrorClass.SERVER_ERROR),
    Trick.HTML: _words(ErrorClass.NOT_AN_IMAGE),
    Trick.DISGUISED: _words(ErrorClass.NOT_AN_IMAGE),
    Trick.EMPTY: _words(ErrorClass.NOT_AN_IMAGE),
    Trick.TRUNCATED: _words(ErrorClass.RESET),
    Trick.CORRUPT: _words(ErrorClass.CORRUPT_IMAGE),
    Trick.BOMB: _words(ErrorClass.TOO_MANY_PIXELS),
    Trick.OPT_OUT: _words(ErrorClass.OPTED_OUT),
    Trick.REDIRECT: IMAGE,
    Trick.LOOP: _words(ErrorClass.REDIRECT_LOOP),
    Trick.ENDLESS: _words(ErrorClass.REDIRECT_LOOP),
    Trick.HANG: _words(ErrorClass.TIMEOUT),
    Trick.DRIP: _words(ErrorClass.TIMEOUT, ErrorClass.TOO_SLOW),
    Trick.RESET: _words(ErrorClass.RESET),
    Trick.GARBAGE: _words(ErrorClass.PROTOCOL),
}


@dataclass(frozen=True, slots=True)
class FleetMode:
    """A host of the fleet, by its settings; `words` are those of its bad rows."""

    words: Words = IMAGE
    how: Mapping[str, object] = field(default_factory=dict)
    trick: Trick | None = None  # of one row; none: all rows have these words

    def plan(self, name: str, address: str) -> HostPlan:
        """Where it is; a redirect leads to a neighbour's image."""
        usual = {"images": ROWS, "photos": "tiny"}
        target = f"http://{PLAIN}-{name.rpartition('-')[2]}:{{port}}/mirror/{{name}}"
        specials = (Special(trick=self.trick, share=1 / ROWS, to=target),) if self.trick else ()
        given = {**usual, **self.how, "specials": specials}
        return HostPlan(name=name, address=address, **given)  # type: ignore[arg-type]

    def rows(self, plan: HostPlan) -> dict[str, Words]:
        """What may become of each path."""
        bad = specials_by_path(plan) if self.trick else set(image_paths(plan))
        return {path: self.words if path in bad else IMAGE for path in image_paths(plan)}


FLEET_MODES = {
    PLAIN: FleetMode(how={"images": 24}),
    "large": FleetMode(how={"images": 4, "photos": "real"}),
    "slow": FleetMode(how={"images": 8, "latency_s": 0.3}),
    "narrow": FleetMode(how={"bytes_per_s": 20_000.0}),
    "strict": FleetMode(how={"images": 6, "rate": 5.0, "burst": 1.0, "retry_after_s": 1.0}),
    "mending": FleetMode(how={"fails_first": 1, "failure_status": 500}),
    "dead": FleetMode(_words(ErrorClass.CONNECT), {"listens": False}),
    "silent": FleetMode(
        _words(ErrorClass.TIMEOUT, ErrorClass.ROBOTS_UNREACHABLE), {"answers": False}
    ),
    "broken": FleetMode(_words(ErrorClass.SERVER_ERROR), {"recovers_after_requests": 10**6}),
    "closed": FleetMode(
        _words(ErrorClass.ROBOTS_DISALLOWED), {"robots": "User-agent: *\nDisallow: /\n"}
    ),
    **{
        trick.value.replace("_", "-"): FleetMode(words, trick=trick)
        for trick, words in TRICKS.items()
    },
}
REDIRECTING = "guarded"  # whose paths lead where nobody may go
GUARDED = {
    **dict.fromkeys(PRIVATE, _words(ErrorClass.PRIVATE_ADDRESS)),
    **dict.fromkeys(NO_HOSTS, _words(ErrorClass.REDIRECT_INVALID)),  # in a list they are rejected
}


@dataclass(frozen=True, slots=True)
class TlsMode:
    """Who a server says it is."""

    words: Words
    certificate: Path
    host: str = "tls.example"  # what it is asked as


TLS_MODES = {
    "tls: all is well": TlsMode(IMAGE, CERTIFICATE),
    "tls: expired": TlsMode(_words(ErrorClass.TLS_EXPIRED), EXPIRED),
    "tls: for another name": TlsMode(
        _words(ErrorClass.TLS_WRONG_NAME), CERTIFICATE, "else.example"
    ),
    "tls: signed by itself": TlsMode(_words(ErrorClass.TLS_SELF_SIGNED), STRANGER),
}
IMAGE_MODES = ("images: cut and damaged", "images: of other formats", "images: bombs")
RAW_MODES = (*WIRE, *TLS_MODES, *IMAGE_MODES)
MODES = (*FLEET_MODES, *RAW_MODES, REDIRECTING)


def wire_words(name: str) -> Words:
    """What may become of the bad row of a mode of the bare wire."""
    return _words(*WIRE[name].words) or IMAGE
