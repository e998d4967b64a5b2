"""The recording server's modes by name: every way of being a bad server that the fleet knows.

A mode is a host of its own, so that what it costs is seen: `spared` are the URLs that must end with
their image whatever their neighbours do; the others must end, whatever they end with.
"""

from dataclasses import dataclass, replace

from distributed_downloader.fleet.plan import FleetPlan, HostPlan, Special, Trick
from distributed_downloader.fleet.running import Fleet, image_paths
from distributed_downloader.fleet.site import specials_by_path

ROWS = 3  # of a mode that is tried on one of them
PLAIN = "plain"
TARGET = f"http://{PLAIN}.test:{{port}}/mirror/{{name}}"
HARMLESS = (Trick.REDIRECT,)  # brings the image all the same


@dataclass(frozen=True, slots=True)
class Mode:
    """How a host behaves, and whether its rows (tricks apart) end with their image."""

    host: HostPlan
    spares: bool = True


def _mode(name: str, *, spares: bool = True, **how: object) -> Mode:
    usual = {"images": ROWS, "photos": "tiny", "address": "127.0.0.1"}
    return Mode(HostPlan(name=f"{name}.test", **{**usual, **how}), spares)  # type: ignore[arg-type]


def _trick(trick: Trick) -> Mode:
    special = Special(trick=trick, share=1 / ROWS, to=TARGET)
    return _mode(trick.value.replace("_", "-"), specials=(special,))


HOST_MODES = {
    PLAIN: _mode(PLAIN, images=40),
    "large": _mode("large", images=8, photos="real"),
    "slow": _mode("slow", images=12, latency_s=0.3),
    "narrow": _mode("narrow", bytes_per_s=20_000.0),
    "strict": _mode("strict", images=8, rate=5.0, burst=1.0, retry_after_s=1.0),
    "mending": _mode("mending", fails_first=1, failure_status=500),
    "dead": _mode("dead", spares=False, listens=False),
    "silent": _mode("silent", spares=False, answers=False),
    "broken": _mode("broken", spares=False, recovers_after_requests=10**6),
    "closed": _mode("closed", spares=False, robots="User-agent: *\nDisallow: /\n"),
}
MODES = {**HOST_MODES, **{f"trick:{trick.value}": _trick(trick) for trick in Trick}}


def plan_of(lane: int) -> FleetPlan:
    """All modes, at addresses that no other lane has."""
    hosts = (
        replace(mode.host, address=f"127.{60 + lane}.0.{number}")
        for number, mode in enumerate(MODES.values(), 1)
    )
    return FleetPlan(hosts=tuple(hosts))


def spared_urls(fleet: Fleet) -> set[str]:
    """The URLs whose image must be there in the end."""
    return {
        fleet.url(mode.host.name, path)
        for mode in MODES.values()
        if mode.spares
        for path in image_paths(mode.host)
        if _brings_an_image(mode.host, path)
    }


def _brings_an_image(host: HostPlan, path: str) -> bool:
    special = specials_by_path(host).get(path)
    return special is None or special.trick in HARMLESS
