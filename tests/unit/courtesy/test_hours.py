"""Windows of the day at its edges."""

import pytest

from distributed_downloader.courtesy.hours import hours_of
from distributed_downloader.errors import ConfigError


@pytest.mark.parametrize("text", ["24-0", "24:00-00:00", "24-24", "0-0"])
def test_an_empty_window_is_not_always(text: str) -> None:
    with pytest.raises(ConfigError, match=f"'{text}', which is no part of a day"):
        hours_of(text)


def test_an_empty_window_among_others_is_refused() -> None:
    with pytest.raises(ConfigError, match="'24-0', which is no part of a day"):
        hours_of(["9-17", "24-0"])


def test_a_window_from_midnight_may_be_written_as_24() -> None:
    assert hours_of("24-6") == hours_of("0-6") == ((0, 21_600),)
