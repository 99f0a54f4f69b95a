"""The pictures and masks of one visit, by the key that pairs them."""

import math
from collections import defaultdict
from collections.abc import Iterable

from services.ingest.settle import Settling
from services.ingest.tree import CHANNEL_0, place_of


class Pairs:
    """What lies on the desk of a segmentation task; made anew for each visit."""

    def __init__(
        self,
        items: Iterable[Settling],
        quiet: Iterable[Settling],
        arrivals: dict[str, float] | None = None,
    ) -> None:
        """What can be taken now, and what belongs together.

        Args:
            items: everything on its way in.
            quiet: the part of it that may be taken now.
            arrivals: folders of a pair → when a new file was seen there last; kept by the caller.
        """
        self.arrivals = {} if arrivals is None else arrivals
        self.pictures: list[Settling] = []  # to be taken now
        self._masks: dict[str, list[Settling]] = defaultdict(list)
        self._expected: set[str] = set()  # pairs of pictures that are on their way
        self._coming: set[str] = set()  # pairs of masks that have not settled
        self._rivals: dict[str, int] = defaultdict(int)  # masks on their way, by pair
        ready = {item.found.path for item in quiet}
        for item in sorted(items, key=lambda one: one.found.path):
            if not item.found.trouble:
                self._sort_in(item, item.found.path in ready)
        # Together with its mask, a picture becomes one import.
        self.pictures = [one for one in self.pictures if not self._mask_is_coming(one)]

    def _sort_in(self, item: Settling, is_ready: bool) -> None:
        place = place_of(item.found.path)
        if place.pair is not None:
            folders = _folders(place.pair)
            self.arrivals[folders] = max(self.arrivals.get(folders, item.since_s), item.since_s)
        if not place.is_mask or place.pair is None:
            self._expected.update(_mask_keys(place.pair))
            if is_ready:
                self.pictures.append(item)
            return
        self._rivals[place.pair] += 1
        if is_ready:
            self._masks[place.pair].append(item)
        elif not item.tries:
            self._coming.add(place.pair)

    def masks_of(self, picture: Settling) -> list[Settling]:
        """The masks to take right after a picture; each is given out once."""
        keys = _mask_keys(place_of(picture.found.path).pair)
        return [mask for key in keys for mask in self._masks.pop(key, [])]

    def masks_left(self) -> list[Settling]:
        """The masks that no picture of this visit asked for."""
        return [mask for masks in self._masks.values() for mask in masks]

    def has_rivals(self, pair: str) -> bool:
        """Whether two masks claim one picture, so that neither can be believed."""
        return self._rivals[pair] > 1

    def expects_picture(self, pair: str) -> bool:
        """Whether the picture of a mask was on its way when the visit began."""
        return pair in self._expected

    def newest_s(self, pair: str) -> float:
        """When the last new file came to the two folders of a mask: people copy all masks first."""
        return self.arrivals.get(_folders(pair), -math.inf)

    def _mask_is_coming(self, picture: Settling) -> bool:
        return any(key in self._coming for key in _mask_keys(place_of(picture.found.path).pair))


def _folders(pair: str) -> str:
    return pair.rpartition("/")[0]


def _mask_keys(pair: str | None) -> list[str]:
    """The keys under which a picture's mask may stand: its own, and that without channel."""
    if pair is None:
        return []
    return [pair, pair.removesuffix(CHANNEL_0)] if pair.endswith(CHANNEL_0) else [pair]
