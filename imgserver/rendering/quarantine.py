"""Keys whose renders killed workers. A second death sets a key aside for a while, so one URL cannot empty the pool."""

from collections import OrderedDict
from collections.abc import Callable

from imgserver.errors import Quarantined

DEATHS = 2
# Who kills workers from outside, again and again, must not have every picture set aside that was being made. It counts
# for something all the same: not every kernel tells whom it killed for want of memory.
OTHERS_SHARE = 0.1
SECONDS = 600.0
KEYS = 1024


class Quarantine:
    """A bounded table: the least recently fatal key gives way. Deaths count together within the same ten minutes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._deaths: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Keys set aside now."""
        return sum(self._count(key) >= DEATHS for key in self._deaths)

    def check(self, key: str) -> None:
        """Raises Quarantined for a key set aside."""
        if self._count(key) >= DEATHS:
            raise Quarantined()

    def note_death(self, key: str, *, share: float = 1.0) -> None:
        """`share`: how much of a death it was, in doubt."""
        self._deaths[key] = self._count(key) + share, self._clock()
        self._deaths.move_to_end(key)
        if len(self._deaths) > KEYS:
            self._deaths.popitem(last=False)

    def _count(self, key: str) -> float:
        count, since = self._deaths.get(key, (0, 0.0))
        return count if self._clock() - since < SECONDS else 0
