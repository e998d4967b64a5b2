"""What is looked at before a wave, or profile, asks for anything: whether there is a way out.

1. Before anything was ever stored, the servers of the plan are tried.
2. Later, those of them that have answered to profile: others may be dead, and are for the rows to
   find out.
3. With `suppress_unchanged_error` nothing is looked at: whoever sets it knows that all may be dead.
"""

from collections.abc import Iterable

from distributed_downloader.errors import NetworkError
from distributed_downloader.settings import Settings
from distributed_downloader.waves.nodes import this_node
from distributed_downloader.waves.profile_table import read_profiles
from distributed_downloader.wire.reach import ENOUGH, TRIED, no_way_out
from distributed_downloader.wording import count


async def check_way_out(settings: Settings, servers: Iterable[str]) -> None:
    """Raise NetworkError if this node reaches none of them."""
    if settings.suppress_unchanged_error:
        return
    tried = _worth_trying(settings, servers)
    why = await no_way_out(settings, tried) if tried else None
    if why is not None:
        raise NetworkError(
            f"{this_node()} reaches none of {count(len(tried))} servers ({tried[0]}, ...): {why}. "
            "Nothing was asked, and no row lost a try. If compute nodes have no way out of their "
            "own, name the HTTP proxy of the site: `proxy` in the config, or HTTPS_PROXY; else "
            "run the same command again when the network is back."
        )


def _worth_trying(settings: Settings, servers: Iterable[str]) -> list[str]:
    planned = list(dict.fromkeys(servers))
    if next(settings.paths.images.glob("*/*"), None) is None:
        return planned[:TRIED]
    if not settings.paths.profiles_table.exists():
        return []
    profiles = read_profiles(settings.paths)
    known = {name for name, profile in profiles.items() if profile["success_count"]}
    good = [server for server in planned if server in known][:TRIED]
    return good if len(good) >= ENOUGH else []
