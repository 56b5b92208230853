"""How long others may take. What this process is late by itself does not count against them.

In a burst an answer lies in the socket while the event loop is at other work for longer than a short time-out; and
uvloop counts a timer from the beginning of the turn in which it is set, so that it may be over before anybody waited.
Timers are seen before sockets: asyncio.timeout would give up on an answer that is there.
"""

import asyncio
import time
from types import TracebackType

# How often the loop's own lateness is looked at, and how much of it is forgiven, in shares of the time allowed.
CHECKS_PER_TIMEOUT = 4
FORGIVEN_TIMEOUTS = 4.0


class Patience:
    """As `asyncio.timeout(seconds)`, but TimeoutError only once the loop has listened for so long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._late = 0.0

    async def __aenter__(self) -> "Patience":
        await self._limit.__aenter__()
        self._begun = time.monotonic()
        self._wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def listened(self) -> float:
        """The seconds since the beginning without those in which the loop was late."""
        now = time.monotonic()
        return now - self._begun - self._late - max(0.0, now - self._due)

    def _wait(self) -> None:
        pause = self._seconds / CHECKS_PER_TIMEOUT
        self._due = time.monotonic() + pause
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        listened = self.listened()
        self._late = time.monotonic() - self._begun - listened
        if listened < self._seconds and self._late <= FORGIVEN_TIMEOUTS * self._seconds:
            self._wait()
        else:
            self._limit.reschedule(asyncio.get_running_loop().time())
