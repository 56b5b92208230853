"""The negative cache: requests that were refused a moment ago are refused again without I/O or a render."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

from imgserver.errors import ImgserverError
from imgserver.plan.rendition import Fingerprint, GroupGenerations
from imgserver.runtime.resources import MIB
from imgserver.runtime.ttl_map import BoundedMap

MAX_BYTES = MIB
# Measured with tracemalloc: an entry with its error, and one of its generations.
ERROR_BYTES = 700
GENERATION_BYTES = 130
FIRST_TTL_SECONDS = 1.0
TTL_GROWTH = 2.0
# A remote original that is repaired may have the validators of the broken one.
LONGEST_TTL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NegativeCacheStatistics:
    """`entries` now; `hits` since the start."""

    entries: int
    hits: int


@dataclass(frozen=True, slots=True)
class NegativeEntry:
    """An error that holds for one state of an original (`fingerprint`; None: there was no original) and is invalidated
    by a purge (`generations`). It is returned until `expires`; then the request is tried again. `ttl_seconds` doubles
    when that fails too.
    """

    error: ImgserverError
    fingerprint: Fingerprint | None
    generations: GroupGenerations
    ttl_seconds: float
    expires: float


class NegativeCache:
    """A table of MAX_BYTES; the oldest entry is evicted first. Use it from one event loop.

    Keys are digests: those of renditions and of originals (`plan.canonical.key`, `source_digest`).

    Never holds the server's own faults (5xx), nor errors that must not be cached (`cache_seconds` 0).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Not a TtlMap: the time of an expired entry is needed when the same request fails again.
        self._entries = BoundedMap[str, NegativeEntry](max_bytes=MAX_BYTES, bytes_of=_bytes_of)
        self._hits = 0

    def __contains__(self, key: str) -> bool:
        """Whether there is an entry, expired or not."""
        return key in self._entries

    def get(self, key: str, generations: GroupGenerations) -> NegativeEntry | None:
        """The entry, unless it has expired or its groups were purged since."""
        entry = self._entries.get(key)
        if entry is None or entry.expires <= self._clock() or entry.generations != generations:
            return None
        return entry

    def hit(self, entry: NegativeEntry) -> ImgserverError:
        """Counts a hit and returns the error to raise: a copy, because an exception that is raised again grows by each
        traceback."""
        self._hits += 1
        return copy.copy(entry.error)

    def put(
        self,
        key: str,
        error: ImgserverError,
        *,
        fingerprint: Fingerprint | None,
        generations: GroupGenerations,
        grows: bool = True,
    ) -> None:
        """Stores the error for one second. If the same original fails again, the time doubles, up to the `max-age` of
        the error response and LONGEST_TTL_SECONDS; not if `grows` is False."""
        if error.status >= 500 or not error.cache_seconds:
            return
        before = self._entries.get(key)
        ttl = FIRST_TTL_SECONDS
        if grows and before is not None and (before.fingerprint, before.generations) == (fingerprint, generations):
            ttl = min(before.ttl_seconds * TTL_GROWTH, error.cache_seconds, LONGEST_TTL_SECONDS)
        # A copy without the traceback, which holds the frames of a whole request.
        stored = copy.copy(error)
        self._entries.put(key, NegativeEntry(stored, fingerprint, generations, ttl, self._clock() + ttl))

    def drop(self, key: str) -> None:
        self._entries.pop(key)

    def clear(self) -> None:
        """Call it when the rules of what is refused have changed."""
        self._entries.clear()

    def statistics(self) -> NegativeCacheStatistics:
        return NegativeCacheStatistics(entries=len(self._entries), hits=self._hits)


def _bytes_of(_: str, entry: NegativeEntry) -> int:
    return ERROR_BYTES + len(entry.error.detail) + GENERATION_BYTES * len(entry.generations)
