"""The quarantine: keys whose renders killed workers. After a second death a key is refused for ten minutes, so that one
URL cannot kill the whole pool."""

from collections import OrderedDict
from collections.abc import Callable

from imgserver.errors import Quarantined

DEATHS = 2
# Whoever kills workers from outside again and again must not quarantine every image that was being rendered. Such a
# death still counts a little, because not every kernel reports what its out-of-memory killer killed.
OTHERS_SHARE = 0.1
SECONDS = 600.0
KEYS = 1024


class Quarantine:
    """A bounded table of deaths by key: the oldest entry is evicted first. Deaths within ten minutes are added up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._deaths: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are in quarantine now."""
        return sum(self._count(key) >= DEATHS for key in self._deaths)

    def check(self, key: str) -> None:
        """Raises Quarantined for a key in quarantine."""
        if self._count(key) >= DEATHS:
            raise Quarantined()

    def note_death(self, key: str, *, share: float = 1.0) -> None:
        """Counts a death, or a share of one if the key may not be at fault."""
        self._deaths[key] = self._count(key) + share, self._clock()
        self._deaths.move_to_end(key)
        if len(self._deaths) > KEYS:
            self._deaths.popitem(last=False)

    def _count(self, key: str) -> float:
        count, since = self._deaths.get(key, (0, 0.0))
        return count if self._clock() - since < SECONDS else 0
