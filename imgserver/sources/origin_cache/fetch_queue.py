"""The queue in front of one origin: a bounded number of concurrent requests, and a bounded number of clients that wait
for their results."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from imgserver.errors import DeadlineExceeded, ImgserverError, NotFound, Unavailable

# Clients that wait for metadata have a stale rendition to fall back to: they may take only this share of `max_waiting`,
# so that the rest is left for clients that need an original.
STAT_SHARE = 0.5
MAX_RETRY_AFTER_SECONDS = 30
RETRY_AFTER_JITTER = 0.2
# The weight of the latest request in the moving average of their duration.
LATEST_WEIGHT = 0.2

FetchKind = Literal["fetch", "stat"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FetchEvent:
    """One finished request to an origin. `reason` is the code of its error, "not-found" included; empty on success.
    `unchanged`: a conditional request that was answered with "not modified"."""

    source: str
    kind: FetchKind
    seconds: float
    reason: str = ""
    unchanged: bool = False


class FetchQueue:
    """At most `max_concurrent` requests run at the same time. `timeout_seconds` bounds each one with its wait in the
    queue. At most `max_waiting` clients wait. `observe` is called after each request. Use from one event loop."""

    def __init__(
        self,
        source: str,
        *,
        max_concurrent: int,
        max_waiting: int,
        timeout_seconds: float,
        observe: Callable[[FetchEvent], None],
    ) -> None:
        self._source = source
        self._max_concurrent = max_concurrent
        self._max_waiting = max_waiting
        self._timeout_seconds = timeout_seconds
        self._observe = observe
        self._slots = asyncio.Semaphore(max_concurrent)
        self._average_seconds = 1.0
        self.waiting = self.fetching = self.refused = self.failures = 0

    def __repr__(self) -> str:
        return (
            f"<FetchQueue fetching {self.fetching}/{self._max_concurrent}, waiting {self.waiting}/{self._max_waiting}>"
        )

    @contextmanager
    def place(self, kind: FetchKind) -> Iterator[None]:
        """A place for a client that waits for a result. Raises Unavailable immediately if there is none left."""
        if self.waiting >= self._max_waiting * (STAT_SHARE if kind == "stat" else 1.0):
            self.refused += 1
            raise Unavailable(
                "Too many requests wait for this source", reason="origin", retry_after=self._retry_after()
            )
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def run(self, kind: FetchKind, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, which sends a request. Raises what it raises, and DeadlineExceeded at the time-out."""
        started = time.monotonic()
        try:
            async with _time_out(self._timeout_seconds), self._slots:
                started = time.monotonic()
                with self._counted():
                    result = await work()
        except ImgserverError as error:
            self.failures += not isinstance(error, NotFound)
            self._observe(FetchEvent(self._source, kind, time.monotonic() - started, reason=error.code))
            raise
        seconds = time.monotonic() - started
        self._average_seconds += LATEST_WEIGHT * (seconds - self._average_seconds)
        self._observe(FetchEvent(self._source, kind, seconds, unchanged=result is None))
        return result

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.fetching += 1
        try:
            yield
        finally:
            self.fetching -= 1

    def _retry_after(self) -> int:
        """Seconds until the clients that wait now have their results, with jitter."""
        seconds = self._average_seconds * max(1.0, self.waiting / self._max_concurrent)
        jittered = seconds * random.SystemRandom().uniform(1 - RETRY_AFTER_JITTER, 1 + RETRY_AFTER_JITTER)
        return max(1, min(MAX_RETRY_AFTER_SECONDS, round(jittered)))


@asynccontextmanager
async def _time_out(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded("The original took too long to download") from error
