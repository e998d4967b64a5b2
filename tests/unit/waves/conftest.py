"""No unit test of a rank connects to a server of its own accord."""

import pytest

from distributed_downloader.waves import arrivals, duty, tries
from distributed_downloader.waves import rank as room
from tests.unit.waves.rank_at_work import InThisThread


@pytest.fixture(autouse=True)
def network_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks whether anybody is there hears yes."""

    async def connects(*_: object) -> bool:
        return True

    monkeypatch.setattr(duty, "connects", connects)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(arrivals, "Codec", InThisThread)
    monkeypatch.setattr(room, "LOOK_S", 0.002)
    monkeypatch.setattr(tries, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(room, "GRACE_S", 0.05)
