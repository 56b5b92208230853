"""Work behind an answer: renewing what was served stale. Bounded, owned, and nobody's error when it fails."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiojobs

from imgserver.errors import ImgserverError

LIMIT = 8
CLOSE_SECONDS = 2.0
# What has failed rests, or each request for a stale picture would begin another render of a broken original.
PAUSE_SECONDS = 1.0
PAUSING = 1024


@dataclass(frozen=True, slots=True)
class BehindStatistics:
    """`skipped`: not begun because LIMIT were running, or because it has just failed; a later request asks again."""

    running: int
    started: int
    failed: int
    skipped: int


class Behind:
    """At most LIMIT at once, and one per key. Use from one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pauses: OrderedDict[str, float] = OrderedDict()
        self._scheduler = aiojobs.Scheduler(limit=None, close_timeout=CLOSE_SECONDS)
        self._running: set[str] = set()
        self._started = self._failed = self._skipped = 0

    async def start(self, key: str, work: Callable[[], Awaitable[object]]) -> None:
        """Begins and returns at once, or does nothing."""
        if key in self._running or self._scheduler.closed:
            return
        if len(self._running) >= LIMIT or self._pauses.get(key, 0.0) > self._clock():
            self._skipped += 1
            return
        self._running.add(key)
        self._started += 1
        await self._scheduler.spawn(self._run(key, work))

    async def close(self) -> None:
        """Calls off what runs."""
        await self._scheduler.close()

    def statistics(self) -> BehindStatistics:
        return BehindStatistics(len(self._running), self._started, self._failed, self._skipped)

    async def _run(self, key: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except ImgserverError:
            # The visitor has an answer; why this failed is counted and logged where it failed.
            self._failed += 1
            self._pause(key)
        finally:
            self._running.discard(key)

    def _pause(self, key: str) -> None:
        self._pauses.pop(key, None)
        self._pauses[key] = self._clock() + PAUSE_SECONDS
        if len(self._pauses) > PAUSING:
            self._pauses.popitem(last=False)
