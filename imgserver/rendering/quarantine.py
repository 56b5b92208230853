"""The quarantine: keys whose renders killed workers. After a second death a key is refused for ten minutes, so that one
URL cannot kill the whole pool."""

from collections.abc import Callable

from imgserver.errors import Quarantined
from imgserver.runtime.ttl_map import TtlMap

DEATHS = 2
# Whoever kills workers from outside again and again must not quarantine every image that was being rendered. Such a
# death still counts a little, because not every kernel reports what its out-of-memory killer killed.
OTHERS_SHARE = 0.1
SECONDS = 600.0
KEYS = 1024


class Quarantine:
    """A bounded table of deaths by key: the oldest entry is evicted first. Deaths within ten minutes are added up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._deaths: TtlMap[str, float] = TtlMap(SECONDS, max_entries=KEYS, clock=clock)

    def __len__(self) -> int:
        """How many keys are in quarantine now."""
        return sum(deaths >= DEATHS for deaths in self._deaths.values())

    def check(self, key: str) -> None:
        """Raises Quarantined for a key in quarantine."""
        if (self._deaths.get(key) or 0) >= DEATHS:
            raise Quarantined()

    def note_death(self, key: str, *, share: float = 1.0) -> None:
        """Counts a death, or a share of one if the key may not be at fault."""
        self._deaths.put(key, (self._deaths.get(key) or 0) + share)
