"""Waits until files are whole: the same size and time at two looks, some seconds apart.

Pure bookkeeping; the clock and the looks come from the caller.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.ingest.ledger import Stamp
from services.ingest.scan import Found


@dataclass(slots=True)
class Settling:
    """A file that is not dealt with yet."""

    found: Found
    since_s: float  # first look at which it looked like this
    again_s: float = 0.0  # not to be tried before this
    tries: int = 0


class SettleDesk:
    """The files of one task that are on their way in."""

    def __init__(self, quiet_s: float) -> None:
        self.quiet_s = quiet_s
        self.items: dict[str, Settling] = {}

    def __len__(self) -> int:
        return len(self.items)

    def see(self, found: Iterable[Found], now_s: float) -> None:
        """Note files as a scan met them; another look of a known one starts its wait anew."""
        for one in found:
            item = self.items.get(one.path)
            if item is None or item.found.stamp != one.stamp:
                self.items[one.path] = Settling(one, now_s)

    def check(self, stamp_of: Callable[[str], Stamp | None], now_s: float) -> None:
        """Look again at every file whose wait is not over; forget those that have gone."""
        for path, item in list(self.items.items()):
            stamp = stamp_of(path)
            if stamp is None:
                del self.items[path]
            elif stamp != item.found.stamp:
                found = Found(path, stamp, item.found.trouble, item.found.note)
                self.items[path] = Settling(found, now_s)

    def quiet(self, now_s: float) -> list[Settling]:
        """Files that looked the same for long enough and are due, by path."""
        due = [item for item in self.items.values() if self._due_s(item) <= now_s]
        return sorted(due, key=lambda item: item.found.path)

    def still_moving(self, now_s: float) -> bool:
        """Whether some file has not been quiet for long enough yet."""
        return any(item.since_s + self.quiet_s > now_s for item in self.items.values())

    def next_due_s(self, now_s: float) -> float | None:
        """When the next file becomes ready; None when none will by waiting alone."""
        later = [due for item in self.items.values() if (due := self._due_s(item)) > now_s]
        return min(later, default=None)

    def postpone(self, item: Settling, until_s: float) -> None:
        item.again_s = until_s
        item.tries += 1

    def done(self, path: str) -> None:
        self.items.pop(path, None)

    def _due_s(self, item: Settling) -> float:
        return max(item.since_s + self.quiet_s, item.again_s)
