"""Rate limits by token buckets: requests per client, and new renditions per original.

A bucket holds up to `burst` tokens and refills steadily. One number describes it, the time at which it will be full
again (GCRA, the generic cell rate algorithm); a full bucket need not be stored. The shared buckets in Redis
(cache/redis/rate_limit.py) follow the same rule.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Generic, Protocol, TypeVar

from annotated_types import Ge, Le, doc

from imgserver.errors import OriginalBusy
from imgserver.plan.plan import SourceRef
from imgserver.runtime.resources import MIB
from imgserver.runtime.ttl_map import TtlMap

K = TypeVar("K", bound=Hashable)

MAX_ORIGINALS = 8192
MAX_CLIENTS = 65_536
MAX_BYTES = 8 * MIB

# Tolerances in tokens and in seconds: the sum of many intervals is off by rounding, which must not cost the last token
# of a burst.
ROUNDING_TOKENS = 1e-6
ROUNDING_SECONDS = 1e-9


class TokenBuckets(Generic[K]):
    """A token bucket per key, for the `max_buckets` keys used last, in MAX_BYTES; a forgotten key starts with a full
    bucket. No I/O."""

    def __init__(self, max_buckets: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The time at which each bucket is full again. An entry expires at that time.
        self._full_at = TtlMap[K, float](0.0, max_entries=max_buckets, max_bytes=MAX_BYTES, clock=clock)

    def __len__(self) -> int:
        """Buckets stored."""
        return len(self._full_at)

    def take(self, key: K, *, per_second: float, burst: int) -> float:
        """Takes a token. Returns 0 when there was one, else the seconds until there will be one."""
        now, interval = self._clock(), 1 / per_second
        # Bounded, for the rate may have been faster when the bucket was used last.
        full_at = min(self._full_at.get(key) or now, now + interval * burst) + interval
        wait = full_at - now - interval * burst
        if wait > max(interval * ROUNDING_TOKENS, ROUNDING_SECONDS):
            return wait
        self._full_at.put(key, full_at, ttl_seconds=full_at - now)
        return 0.0

    def charge(self, key: K, tokens: int, *, per_second: float) -> None:
        """Takes tokens for what has been done already. The bucket may lack them: then it fills later."""
        full_at = max(self._full_at.get(key) or 0.0, self._clock()) + tokens / per_second
        self._full_at.put(key, full_at, ttl_seconds=full_at - self._clock())

    def put_back(self, key: K, *, per_second: float) -> None:
        """Puts a token back that was not used."""
        full_at = self._full_at.get(key)
        if full_at is not None:
            full_at -= 1 / per_second
            self._full_at.put(key, full_at, ttl_seconds=full_at - self._clock())


class SharedRateLimit(Protocol):
    """Token buckets that several servers share."""

    async def take(self, name: str, *, per_second: float, burst: int) -> float | None:
        """As `TokenBuckets.take`; None when the shared buckets do not answer. Never raises."""


class ClientRateLimiter:
    """The rate limit of clients, per class of route: in this process, and with Redis for all servers together.

    The bucket of this process comes first. It counts a part of what the shared bucket counts, so the shared bucket
    would refuse every client that it refuses. A flood therefore costs Redis no more than the limit, and without Redis
    this process goes on counting.
    """

    def __init__(self, shared: SharedRateLimit | None = None) -> None:
        self._own = TokenBuckets[str](MAX_CLIENTS)
        self._shared = shared

    async def take(self, name: str, *, per_second: float, burst: int) -> float:
        """Returns 0 when the client `name` may go on, else the seconds that it must wait."""
        wait = self._own.take(name, per_second=per_second, burst=burst)
        if wait or self._shared is None:
            return wait
        return await self._shared.take(name, per_second=per_second, burst=burst) or 0.0


@dataclass(frozen=True, slots=True)
class QuotaSettings:
    """The rate limit of new renditions, per original, for URLs without a signature."""

    renditions_per_minute: Annotated[
        int,
        Ge(0),
        Le(1_000_000),
        doc("new renditions of one original, one of n seconds counted n times; 0: no limit; 120 suits a public site"),
    ] = 0
    burst: Annotated[int, Ge(1), Le(1_000_000), doc("how many of them may be made in a burst")] = 40


class Quota:
    """The number of new renditions of one original that clients may have rendered without a signature. Cached
    renditions and renders that are under way already cost nothing; a long render costs more than a short one. Each
    server counts for itself."""

    def __init__(self, settings: QuotaSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = settings.renditions_per_minute / 60
        self._burst = settings.burst
        self._buckets = TokenBuckets[SourceRef](MAX_ORIGINALS, clock)

    def __len__(self) -> int:
        """Buckets stored."""
        return len(self._buckets)

    def take(self, ref: SourceRef) -> None:
        """Raises OriginalBusy, because this client need not be the one that requested the others. `retry_after` is the
        seconds until the next render is allowed."""
        if not self._per_second:
            return
        wait = self._buckets.take(ref, per_second=self._per_second, burst=self._burst)
        if wait:
            seconds = max(1, ceil(wait))
            raise OriginalBusy(
                f"Too many new renditions of this original were requested; the next is rendered in {seconds} s",
                reason="renditions",
                retry_after=seconds,
                source=ref.source,
            )

    def charge(self, ref: SourceRef, *, seconds: float) -> None:
        """Charges a render by its cost: once per second. `take` has charged the first."""
        if self._per_second and round(seconds) > 1:
            self._buckets.charge(ref, round(seconds) - 1, per_second=self._per_second)

    def put_back(self, ref: SourceRef) -> None:
        """Puts back what was taken for a rendition that was never rendered."""
        if self._per_second:
            self._buckets.put_back(ref, per_second=self._per_second)
