"""Whether a server's owner lets us: robots.txt before a request, the answer's own headers after."""

from collections.abc import Mapping

import httpx

from distributed_downloader.fetching import Answer
from distributed_downloader.records import Failed
from distributed_downloader.settings import Settings


class Permission:
    """What the owners of a rank's servers have said."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        self._settings = settings
        self._client = client
        self.crawl_delays: Mapping[str, float] = {}

    async def refusal(self, url: str, gate: object) -> Failed | None:
        return None

    def opt_out(self, url: str, answer: Answer) -> Failed | None:
        return None
