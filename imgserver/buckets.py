"""Token buckets: how often one client may ask. In this process, and with Redis for all servers together.

The own bucket is asked first. It sees a part of what the shared one sees, so whoever it refuses would be refused there
as well: a flood costs Redis no more than what it may have, and when Redis falls silent the count goes on from here.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

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
