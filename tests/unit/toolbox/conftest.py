import os

import pytest

from distributed_downloader.codec import processes


@pytest.fixture
def deadly(monkeypatch):
    """Bodies, each with the signal that ends the process that decodes it."""
    signals = {}

    class Process(processes._Process):
        def encode(self, body, promised):
            if body in signals:
                os.kill(self._process.pid, signals[body])
            return super().encode(body, promised)

    monkeypatch.setattr(processes, "_Process", Process)
    return signals
