"""Bounded maps: one by number of entries and by bytes, and one whose entries also expire.

Both are for keys that clients choose. A number of entries alone bounds nothing: a path may be 8 kB long.
"""

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from imgserver.runtime.resources import MIB

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_ENTRIES = 16_384
MAX_BYTES = 4 * MIB
# The overhead of an entry: its slots in two dictionaries, and small objects in the value (measured with tracemalloc).
ENTRY_BYTES = 400


def bytes_of_key(key: Hashable) -> int:
    """An estimate of the bytes of a key that is a text, or an object whose `repr` shows its texts."""
    return sys.getsizeof(key) if isinstance(key, str) else 100 + len(repr(key))


class BoundedMap(Generic[K, V]):
    """A map to which `put` adds. The entries that were put least recently are evicted when there are more than
    `max_entries`, or when they take more than `max_bytes`. An entry that is larger than `max_bytes` is not stored.

    `bytes_of` estimates the bytes of an entry beyond ENTRY_BYTES; without it, the key counts alone.
    """

    def __init__(
        self,
        max_entries: int = MAX_ENTRIES,
        *,
        max_bytes: int = MAX_BYTES,
        bytes_of: Callable[[K, V], int] | None = None,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes_of = bytes_of or (lambda key, _: bytes_of_key(key))
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._sizes: dict[K, int] = {}
        self.bytes = 0
        # The dictionary's own method: reading costs nothing extra.
        self.get: Callable[[K], V | None] = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def items(self) -> Iterator[tuple[K, V]]:
        """From the entry that was put least recently to the latest."""
        return iter(self._entries.items())

    def put(self, key: K, value: V) -> None:
        size = ENTRY_BYTES + self._bytes_of(key, value)
        self.pop(key)
        if size > self._max_bytes:
            return
        self._entries[key] = value
        self._sizes[key] = size
        self.bytes += size
        while len(self._entries) > self._max_entries or self.bytes > self._max_bytes:
            self.pop(next(iter(self._entries)))

    def pop(self, key: K) -> None:
        """Removes the key's entry, if there is one."""
        if self._entries.pop(key, None) is not None:
            self.bytes -= self._sizes.pop(key)

    def clear(self) -> None:
        self._entries.clear()
        self._sizes.clear()
        self.bytes = 0


class TtlMap(Generic[K, V]):
    """Each entry lives for `ttl_seconds`. The entries that were put least recently are evicted when there are more than
    `max_entries`, or when they take more than `max_bytes`, as `bytes_of` estimates them (see `BoundedMap`)."""

    def __init__(
        self,
        ttl_seconds: float,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        bytes_of: Callable[[K, V], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        size = None if bytes_of is None else lambda key, entry: bytes_of(key, entry[0])
        # With the time at which each expires.
        self._entries = BoundedMap[K, tuple[V, float]](max_entries, max_bytes=max_bytes, bytes_of=size)

    def __len__(self) -> int:
        """Entries held, expired ones included."""
        return len(self._entries)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return entry[0] if entry is not None and self._clock() < entry[1] else None

    def values(self) -> Iterator[V]:
        """The values that have not expired."""
        now = self._clock()
        return (value for _, (value, expires) in self._entries.items() if now < expires)

    def put(self, key: K, value: V, *, ttl_seconds: float | None = None) -> None:
        """`ttl_seconds`: for this entry, instead of the map's own. Removes expired entries at the old end, two at most,
        so that they never pile up and no call takes long."""
        now = self._clock()
        self._entries.put(key, (value, now + (self._ttl_seconds if ttl_seconds is None else ttl_seconds)))
        for _ in range(2):
            oldest = next(self._entries.items(), None)
            if oldest is None or now < oldest[1][1]:
                return
            self._entries.pop(oldest[0])

    def pop(self, key: K) -> None:
        """Removes the key's entry, if there is one."""
        self._entries.pop(key)

    def clear(self) -> None:
        self._entries.clear()
