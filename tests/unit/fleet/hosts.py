"""A host of a fleet, and what it answers without a wire."""

from distributed_downloader.fleet.plan import HostPlan
from distributed_downloader.fleet.replies import Request
from distributed_downloader.fleet.site import Site

REAL_HOST = "photos.museum.test"


def host(**changes) -> HostPlan:
    return HostPlan(**{"name": REAL_HOST, "address": "127.9.1.1", "photos": "tiny", **changes})


def get(site: Site, path: str, now: float = 0.0, **headers: str):
    return site.reply(Request("GET", path, headers), now)
