"""How many new renditions of one original strangers may have made: a bucket per original, which refills steadily.

Pictures that are kept cost nothing, nor does joining a render under way. Each server counts for itself.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Protocol

from annotated_types import Ge, Le, doc

from imgserver.errors import QuotaExceeded
from imgserver.plan.plan import SourceRef

# A bucket that is full again is forgotten, so this many matter only when so many originals are asked for at once.
BUCKETS = 16_384


@dataclass(frozen=True, slots=True)
class QuotaSettings:
    """The rate limit of new renditions, per original, for URLs without a signature."""

    renditions_per_minute: Annotated[
        int, Ge(0), Le(1_000_000), doc("new renditions of one original; 0: no limit; 120 suits a public site")
    ] = 0
    burst: Annotated[int, Ge(1), Le(1_000_000), doc("how many of them may be made in a burst")] = 40


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


# Token buckets: how often one client may ask. In this process, and with Redis for all servers together.
#
# The bucket of this process comes first. It sees a part of what the shared one sees, so a client that it refuses
# would be refused there as well: a flood costs Redis no more than its limit, and without Redis this count goes on.

CLIENTS_LIMIT = 65_536


class Shared(Protocol):
    async def take(self, name: str, *, per_second: float, burst: int) -> float | None:
        """The seconds until there is a token, 0 when one was taken; None when nobody knows. Never raises."""


class Buckets:
    """Of the clients seen last; who was forgotten begins with a full one. No I/O."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When each will be full again (GCRA).
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, *, per_second: float, burst: int) -> float:
        """A token: the seconds until there would be one, 0 when it was had."""
        now, each = self._clock(), 1 / per_second
        full_at = min(max(self._full_at.get(name, now), now), now + each * burst) + each
        wait = full_at - now - each * burst
        # A float's worth of grace: the last of a burst must not fail for rounding.
        if wait > 1e-9:
            return wait
        self._full_at[name] = full_at
        self._full_at.move_to_end(name)
        if len(self._full_at) > CLIENTS_LIMIT:
            self._full_at.popitem(last=False)
        return 0.0


class ClientBuckets:
    """What the door asks, per client and class of route."""

    def __init__(self, shared: Shared | None = None) -> None:
        self._own = Buckets()
        self._shared = shared

    async def take(self, name: str, *, per_second: float, burst: int) -> float:
        """0 when `name` may go on; else how many seconds it has to wait."""
        wait = self._own.take(name, per_second=per_second, burst=burst)
        if wait or self._shared is None:
            return wait
        told = await self._shared.take(name, per_second=per_second, burst=burst)
        return told or 0.0
