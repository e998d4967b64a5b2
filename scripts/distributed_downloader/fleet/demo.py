"""The demo: a dozen servers as one meets them in real lists, and a list of what they hold.

Port and addresses are fixed, so that the same command goes on where it was interrupted.
"""

import csv
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO

from distributed_downloader.fleet.plan import FleetPlan, HostPlan, Special, Trick
from distributed_downloader.fleet.running import image_paths

PORT = 18471
RATE = 10.0  # requests per second that each server allows, if nothing else is said
BURST = 5.0
COLUMNS = ("source_id", "identifier", "license", "source", "title", "collection")
RUBBISH = (
    "",
    "no picture",
    "IMG_0042.jpg",
    "ftp://photos.museum-a.test/photos/00001.jpg",
    "http://",
    "mailto:curator@museum-a.test",
)
LICENSES = ("CC0-1.0", "CC-BY-4.0", "CC-BY-NC-4.0", "")
DUPLICATES = 8

CDN = "http://cdn.imagehub.test:{port}/mirror/{name}"

HOSTS = (
    HostPlan(
        name="photos.museum-a.test",
        address="127.41.0.1",
        images=60,
        specials=(
            Special(trick=Trick.NOT_FOUND, share=0.05),
            Special(trick=Trick.REDIRECT, share=0.05, to="/moved/{name}"),
        ),
    ),
    HostPlan(name="img1.herbarium.test", address="127.41.0.2", images=40, group="herbarium.test"),
    HostPlan(
        name="img2.herbarium.test",
        address="127.41.0.3",
        images=30,
        group="herbarium.test",
        specials=(
            Special(
                trick=Trick.REDIRECT,
                share=0.1,
                to="http://img1.herbarium.test:{port}/photos/{name}",
            ),
        ),
    ),
    HostPlan(name="cdn.imagehub.test", address="127.41.0.4", images=20, photos="small"),
    HostPlan(
        name="media.garden.test",
        address="127.41.0.5",
        images=20,
        photos="small",
        specials=(Special(trick=Trick.REDIRECT, share=0.5, to=CDN),),
    ),
    HostPlan(name="slow.zoo.test", address="127.41.0.6", images=24, latency_s=0.8),
    HostPlan(
        name="narrow.archive.test",
        address="127.41.0.7",
        images=10,
        photos="small",
        bytes_per_s=20_000.0,
    ),
    HostPlan(  # is asked for 10/s, allows half of it
        name="strict.university.test",
        address="127.41.0.8",
        images=40,
        rate=5.0,
        burst=2.0,
        retry_after_s=2.0,
    ),
    HostPlan(name="dead.expedition.test", address="127.41.0.9", images=12, listens=False),
    HostPlan(  # recovers in the second wave: config/demo.yaml gives a row two tries in each
        name="mending.society.test",
        address="127.41.0.10",
        images=12,
        fails_first=2,
        failure_status=500,
    ),
    HostPlan(
        name="private.gallery.test",
        address="127.41.0.11",
        images=20,
        robots="User-agent: *\nDisallow: /photos/0000\n",
        specials=(Special(trick=Trick.OPT_OUT, share=0.2),),
    ),
    HostPlan(
        name="pages.portal.test",
        address="127.41.0.12",
        images=20,
        specials=(
            Special(trick=Trick.HTML, share=0.3),
            Special(trick=Trick.DISGUISED, share=0.1),
        ),
    ),
    HostPlan(
        name="broken.backup.test",
        address="127.41.0.13",
        images=16,
        specials=(
            Special(trick=Trick.TRUNCATED, share=0.1),
            Special(trick=Trick.CORRUPT, share=0.1),
            Special(trick=Trick.EMPTY, share=0.1),
            Special(trick=Trick.LOOP, share=0.1),
        ),
    ),
    HostPlan(
        name="quiet.library.test",
        address="127.41.0.14",
        images=10,
        photos="small",
        robots="User-agent: *\nCrawl-delay: 1\n",
    ),
)


def demo_plan(port: int = PORT) -> FleetPlan:
    """The demo's servers."""
    hosts = (host if host.rate else replace(host, rate=RATE, burst=BURST) for host in HOSTS)
    return FleetPlan(hosts=tuple(hosts), port=port)


def demo_rows(plan: FleetPlan) -> list[dict[str, str]]:
    """The list: every image of every server, in turns, some twice, and some rubbish."""
    rows = list(_rows(plan))
    again = [{**row, "source_id": f"again-{row['source_id']}"} for row in rows[:DUPLICATES]]
    rubbish = [
        {**dict.fromkeys(COLUMNS, ""), "source_id": f"rubbish-{number}", "identifier": text}
        for number, text in enumerate(RUBBISH)
    ]
    return [*rows, *again, *rubbish]


def _rows(plan: FleetPlan) -> Iterator[dict[str, str]]:
    longest = max(host.images for host in plan.hosts)
    paths = {host.name: image_paths(host) for host in plan.hosts}
    for index in range(longest):
        for host in plan.hosts:
            if index < host.images:
                values = (
                    f"{host.name.split('.')[1]}-{host.name.split('.')[0]}-{index}",
                    f"http://{host.name}:{plan.port}{paths[host.name][index]}",
                    LICENSES[index % len(LICENSES)],
                    host.name.split(".")[1].title(),
                    f"Specimen {index} of the {host.name.split('.')[1]}",
                    f"drawer {index // 10}",
                )
                yield dict(zip(COLUMNS, values, strict=True))


def demo_csv(plan: FleetPlan) -> str:
    """The list as the text of a CSV file."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(demo_rows(plan))
    return text.getvalue()
