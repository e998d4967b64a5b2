"""No unit test of a rank connects to a server of its own accord."""

import pytest

from distributed_downloader.waves import duty


@pytest.fixture(autouse=True)
def network_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks whether anybody is there hears yes."""

    async def connects(*_: object) -> bool:
        return True

    monkeypatch.setattr(duty, "connects", connects)
