"""Image servers for runs on Slurm."""

from distributed_downloader.fleet.plan import HostPlan

UNDER_WAY = 4  # requests of a group that may be open when a wave is asked to end
UNFLUSHED_S = 1 + 0.5 + 1.5  # flush.seconds, the look at it, a slow disk


def hosts(number: int, images: int) -> list[HostPlan]:
    """Hosts of as many groups, with small images."""
    return [
        HostPlan(name=f"a.site{n}.test", address=f"127.43.0.{n}", images=images, photos="tiny")
        for n in range(1, number + 1)
    ]
