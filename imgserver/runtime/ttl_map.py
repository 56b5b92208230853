"""Bounded maps: one by number of entries, and one whose entries also expire."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_ENTRIES = 16_384


class BoundedMap(OrderedDict[K, V]):
    """A dictionary to which `put` adds. The entry that was put least recently is evicted when there are more than
    `max_entries`. All else is the dictionary's own, so reading costs nothing extra."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        super().__init__()
        self._max_entries = max_entries

    def put(self, key: K, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._max_entries:
            self.popitem(last=False)


class TtlMap(Generic[K, V]):
    """Each entry lives for `ttl_seconds`. The entry that was put least recently is evicted when there are more than
    `max_entries`."""

    def __init__(
        self, ttl_seconds: float, *, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        # With the time at which each expires.
        self._entries: BoundedMap[K, tuple[V, float]] = BoundedMap(max_entries)

    def __len__(self) -> int:
        """Entries held, expired ones included."""
        return len(self._entries)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return entry[0] if entry is not None and self._clock() < entry[1] else None

    def values(self) -> Iterator[V]:
        """The values that have not expired."""
        now = self._clock()
        return (value for value, expires in self._entries.values() if now < expires)

    def put(self, key: K, value: V, *, ttl_seconds: float | None = None) -> None:
        """`ttl_seconds`: for this entry, instead of the map's own. Removes expired entries at the old end, two at most,
        so that they never pile up and no call takes long."""
        now = self._clock()
        self._entries.put(key, (value, now + (self._ttl_seconds if ttl_seconds is None else ttl_seconds)))
        for _ in range(2):
            oldest = next(iter(self._entries))
            if now < self._entries[oldest][1]:
                return
            del self._entries[oldest]
            if not self._entries:
                return

    def pop(self, key: K) -> None:
        """Removes the key's entry, if there is one."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()
