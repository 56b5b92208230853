"""What is asked of an origin: so much at once, each in its time, waited for by a bounded number, and told to whoever
observes. Knows nothing of what is kept."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from imgserver.errors import DeadlineExceeded, ImgserverError, NotFound, Unavailable

# Hits can do without a look, so their looks never take the last places of those who need an original.
LOOK_SHARE = 0.5
RETRY_CAP_SECONDS = 30
RETRY_JITTER = 0.2
# How much the latest answer weighs in the typical one.
LATEST = 0.2

FetchKind = Literal["fetch", "stat"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FetchEvent:
    """One question and what became of it. `reason` is the error's code, "not-found" included, or empty; `unchanged`
    tells of a conditional download that brought nothing."""

    source: str
    question: FetchKind
    seconds: float
    reason: str = ""
    unchanged: bool = False


class FetchQueue:
    """`at_once` are put to the origin, each for at most `seconds` with the wait for its turn; `room` may wait."""

    def __init__(
        self, source: str, *, at_once: int, room: int, seconds: float, observe: Callable[[FetchEvent], None]
    ) -> None:
        self._source = source
        self._at_once = at_once
        self._room = room
        self._seconds = seconds
        self._observe = observe
        self._turns = asyncio.Semaphore(at_once)
        self._typical_seconds = 1.0
        self.waiting = self.fetching = self.refused = self.failures = 0

    def __repr__(self) -> str:
        return f"<FetchQueue fetching {self.fetching}/{self._at_once}, waiting {self.waiting}/{self._room}>"

    @contextmanager
    def place(self, question: FetchKind) -> Iterator[None]:
        """For one who waits. Unavailable at once when too many do."""
        if self.waiting >= self._room * (LOOK_SHARE if question == "stat" else 1.0):
            self.refused += 1
            raise Unavailable("Too many wait for this source", reason="origin", retry_after=self._retry_after())
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def ask(self, question: FetchKind, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` answers or raises; DeadlineExceeded when it took too long."""
        begun = time.monotonic()
        try:
            async with _at_most(self._seconds), self._turns:
                begun = time.monotonic()
                with self._counted():
                    answer = await work()
        except ImgserverError as error:
            self.failures += not isinstance(error, NotFound)
            self._observe(FetchEvent(self._source, question, time.monotonic() - begun, reason=error.code))
            raise
        seconds = time.monotonic() - begun
        self._typical_seconds += LATEST * (seconds - self._typical_seconds)
        self._observe(FetchEvent(self._source, question, seconds, unchanged=answer is None))
        return answer

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.fetching += 1
        try:
            yield
        finally:
            self.fetching -= 1

    def _retry_after(self) -> int:
        """When those who wait now will have been served."""
        seconds = self._typical_seconds * max(1.0, self.waiting / self._at_once)
        jittered = seconds * random.SystemRandom().uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)
        return max(1, min(RETRY_CAP_SECONDS, round(jittered)))


@asynccontextmanager
async def _at_most(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded("The original took too long to come") from error
