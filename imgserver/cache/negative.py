"""What was refused a moment ago: the same answer without another look or another render."""

import copy
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from imgserver.errors import ImgserverError
from imgserver.plan.rendition import Fingerprint, GroupGenerations

LIMIT = 4096
FIRST_SECONDS = 1.0
GROWTH = 2.0


@dataclass(frozen=True, slots=True)
class NegativeCacheStatistics:
    """`repeated`: answers given out of memory since the start."""

    remembered: int
    repeated: int


@dataclass(frozen=True, slots=True)
class NegativeEntry:
    """`state`: of which original it holds (None: there was none); `generations`: a purge after it makes it void.

    After `until` it is tried again; `seconds` is how long it held, and grows when that fails too.
    """

    error: ImgserverError
    state: Fingerprint | None
    generations: GroupGenerations
    seconds: float
    until: float


class NegativeCache:
    """A bounded table; the refusal noted longest ago gives way. Use from one event loop.

    The server's own faults (5xx) are never remembered, nor what its error forbids to keep.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._table: OrderedDict[Hashable, NegativeEntry] = OrderedDict()
        self._repeated = 0

    def __contains__(self, key: Hashable) -> bool:
        """Whether anything is remembered of it, in force or not."""
        return key in self._table

    def recall(self, key: Hashable, generations: GroupGenerations) -> NegativeEntry | None:
        """What holds now."""
        refusal = self._table.get(key)
        if refusal is None or refusal.until <= self._clock() or refusal.generations != generations:
            return None
        return refusal

    def repeat(self, refusal: NegativeEntry) -> ImgserverError:
        """The error to raise: a copy, because an exception that is raised again grows by each traceback."""
        self._repeated += 1
        return copy.copy(refusal.error)

    def note(
        self,
        key: Hashable,
        error: ImgserverError,
        *,
        state: Fingerprint | None,
        generations: GroupGenerations,
        grows: bool = True,
    ) -> None:
        """Holds for a second; the next time, of the same original, for two, and so on up to what caches are told."""
        if error.status >= 500 or not error.cache_seconds:
            return
        before = self._table.pop(key, None)
        seconds = FIRST_SECONDS
        if grows and before is not None and (before.state, before.generations) == (state, generations):
            seconds = min(before.seconds * GROWTH, error.cache_seconds)
        # Without its traceback, which holds the frames of a whole request.
        kept = copy.copy(error)
        self._table[key] = NegativeEntry(kept, state, generations, seconds, self._clock() + seconds)
        if len(self._table) > LIMIT:
            self._table.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        self._table.pop(key, None)

    def clear(self) -> None:
        """What may be asked has changed."""
        self._table.clear()

    def statistics(self) -> NegativeCacheStatistics:
        return NegativeCacheStatistics(len(self._table), self._repeated)
