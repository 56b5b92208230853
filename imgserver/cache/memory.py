"""The memory tier: the most recently used renditions, bounded in bytes."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, doc

from imgserver.cache.tier import IsKept, SweepResult, TierStatistics
from imgserver.plan.rendition import Rendition
from imgserver.runtime.resources import MIB

# The overhead of an entry: key, record, dictionary slot (measured with tracemalloc: 0.9-1.1 kB).
ENTRY_BYTES = 1_100


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """The size of the memory tier."""

    memory_bytes: Annotated[int, Ge(0), doc("size of the memory tier; 0 switches it off")] = 64 * MIB
    memory_item_bytes: Annotated[int, Ge(0), doc("largest rendition stored in memory")] = 4 * MIB


class MemoryTier:
    """A `Tier` with LRU eviction. Not thread-safe: use it from one event loop.

    `TieredCache` calls the `*_nowait` methods, because a hit must not cost a coroutine.
    """

    is_shared = False

    def __init__(self, settings: MemorySettings) -> None:
        self._settings = settings
        self._entries: OrderedDict[str, Rendition] = OrderedDict()
        self._bytes = 0
        self._hits = self._misses = self._evictions = 0

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        self._entries.clear()
        self._bytes = 0

    async def get(self, key: str, _groups: Sequence[str] = (), /) -> Rendition | None:
        rendition = self.get_nowait(key)
        if rendition is None:
            self.count_miss()
        return rendition

    async def put(self, key: str, rendition: Rendition) -> bool:
        return self.put_nowait(key, rendition)

    async def drop(self, key: str) -> None:
        self.drop_nowait(key)

    async def sweep(self, is_kept: IsKept, _groups: Sequence[str] = (), /) -> SweepResult:
        return SweepResult(self.sweep_nowait(is_kept))

    def get_nowait(self, key: str) -> Rendition | None:
        """Counts a hit, but no miss: the caller may look twice for one request (see `count_miss`)."""
        rendition = self._entries.get(key)
        if rendition is None:
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return rendition

    def count_miss(self) -> None:
        self._misses += 1

    def undo_hit(self) -> None:
        """Removes the last hit from the count: the caller did not use the rendition and will look again."""
        self._hits -= 1

    def put_nowait(self, key: str, rendition: Rendition) -> bool:
        weight = _weight(rendition)
        self.drop_nowait(key)
        if len(rendition.body) > self._settings.memory_item_bytes or weight > self._settings.memory_bytes:
            return False
        self._entries[key] = rendition
        self._bytes += weight
        self._evict()
        return True

    def drop_nowait(self, key: str) -> None:
        rendition = self._entries.pop(key, None)
        if rendition is not None:
            self._bytes -= _weight(rendition)

    def sweep_nowait(self, is_kept: IsKept) -> int:
        """Returns the number of removed renditions."""
        return self.sweep_keys(list(self._entries), is_kept)

    def slices(self, size: int) -> Iterator[list[str]]:
        """The keys that are in memory now, in lists of at most `size`."""
        keys = list(self._entries)
        return (keys[start : start + size] for start in range(0, len(keys), size))

    def sweep_keys(self, keys: Iterable[str], is_kept: IsKept) -> int:
        """`sweep_nowait` of these keys, as far as they are still there."""
        found = ((key, self._entries.get(key)) for key in keys)
        removed = [key for key, one in found if one is not None and not is_kept(one.expires, one.generations)]
        for key in removed:
            self.drop_nowait(key)
        return len(removed)

    def groups_of(self, keys: Iterable[str]) -> list[str]:
        """The groups of the renditions with these keys."""
        found = (self._entries.get(key) for key in keys)
        return list({group for one in found if one is not None for group, _ in one.generations})

    def statistics(self) -> TierStatistics:
        """`bytes` includes the estimated overhead of each entry."""
        return TierStatistics(
            entries=len(self._entries),
            bytes=self._bytes,
            limit_bytes=self._settings.memory_bytes,
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
        )

    def _evict(self) -> None:
        while self._bytes > self._settings.memory_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _weight(oldest)
            self._evictions += 1


def _weight(rendition: Rendition) -> int:
    return len(rendition.body) + ENTRY_BYTES
