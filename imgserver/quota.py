"""How many new renditions of one original strangers may have made: a bucket per original, which refills steadily.

Pictures that are kept cost nothing, nor does joining a render under way. Each server counts for itself.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Annotated

from annotated_types import Ge, Le

from imgserver.errors import QuotaExceeded
from imgserver.plan.plan import SourceRef

# A bucket that is full again is forgotten, so this many matter only when so many originals are asked for at once.
BUCKETS = 16_384


@dataclass(frozen=True, slots=True)
class QuotaSettings:
    """Per original, of URLs without a signature; 0 a minute: as many as are asked for."""

    renditions_per_minute: Annotated[int, Ge(0), Le(1_000_000)] = 0
    burst: Annotated[int, Ge(1), Le(1_000_000)] = 40


class Quota:
    """For each original the moment at which its bucket is full again: one number says all (GCRA)."""

    def __init__(self, settings: QuotaSettings, clock: Callable[[], float] = time.monotonic) -> None:
        per_minute = settings.renditions_per_minute
        self._interval = 60 / per_minute if per_minute else 0.0
        self._burst_seconds = self._interval * settings.burst
        self._clock = clock
        self._full_at: OrderedDict[SourceRef, float] = OrderedDict()

    def __len__(self) -> int:
        """Buckets that are kept."""
        return len(self._full_at)

    def take(self, ref: SourceRef) -> None:
        """Raises QuotaExceeded, with the seconds until the next is granted."""
        if not self._interval:
            return
        now = self._clock()
        full_at = max(self._full_at.get(ref, now), now) + self._interval
        # The sum of many intervals is off by a little, which must not cost the last one.
        over = full_at - now - self._burst_seconds
        if over > self._interval * 1e-6:
            wait = max(1, ceil(over))
            raise QuotaExceeded(
                f"Too many new pictures of this original; the next in {wait} s",
                reason="renditions",
                retry_after=wait,
                source=ref.source,
            )
        self._full_at[ref] = full_at
        self._full_at.move_to_end(ref)
        self._forget(now)

    def give_back(self, ref: SourceRef) -> None:
        """What was taken for a picture that nobody began to make."""
        if ref in self._full_at:
            self._full_at[ref] -= self._interval

    def _forget(self, now: float) -> None:
        """The longest untouched, two per new one, so that full ones never pile up; then any, over the bound."""
        for _ in range(2):
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= BUCKETS:
                return
            del self._full_at[oldest]
