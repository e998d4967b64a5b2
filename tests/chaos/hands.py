"""Which modes an output folder is filled from: dealt from a seed, so that each has its turn."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from distributed_downloader.urls.normalise import Normalised, normalise_url
from tests.chaos.modes import (
    FLEET_MODES,
    GUARDED,
    PLAIN,
    RAW_MODES,
    REDIRECTING,
    Words,
)
from tests.chaos.places import Place

SIZE = 15  # modes in a hand


@dataclass(frozen=True, slots=True)
class Hand:
    """Some modes, with their rows; the guarded ones are met behind a proxy."""

    modes: tuple[str, ...]
    is_guarded: bool = False

    def words(self, places: Mapping[str, Place]) -> dict[str, Words]:
        """The URLs of its list, and what may become of each."""
        words: dict[str, Words] = {}
        for mode in self.modes:
            words |= places[mode].words()
        if self.is_guarded:
            port = urlsplit(places[PLAIN].base).port
            words |= {url.format(port=port): word for url, word in GUARDED.items()}
        return words


def as_listed(words: Mapping[str, Words]) -> dict[str, Words]:
    """The same by the URLs that partition makes of these; what it rejects is left out."""
    found = ((normalise_url(url), word) for url, word in words.items())
    return {one.url: word for one, word in found if isinstance(one, Normalised)}


def deal(seed: int) -> list[Hand]:
    """All modes, in hands of few; each hand has plain neighbours."""
    modes = [mode for mode in (*FLEET_MODES, *RAW_MODES) if mode != PLAIN]
    random.Random(seed).shuffle(modes)
    hands = [Hand((PLAIN, *modes[at : at + SIZE])) for at in range(0, len(modes), SIZE)]
    return [Hand((PLAIN, REDIRECTING), is_guarded=True), *hands]


def turns(hands: Sequence[Hand], lane: int, lanes: int) -> Iterator[Hand]:
    """The hands that a lane plays, one after the other, without end."""
    number = lane
    while True:
        yield hands[number % len(hands)]
        number += lanes
