"""The breaker: after a few faults nobody asks any more, until a probe in the background has had a good answer."""

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

FAULTS = 5
FAULTS_SECONDS = 1.0
# The 99th percentile is over its budget when more than this many of so many latest answers were slow.
WINDOW = 200
SLOW_LIMIT = WINDOW // 100

FIRST_PROBE_SECONDS = 1.0
LAST_PROBE_SECONDS = 30.0
# A refused connection costs nobody anything, and who starts a server again does not want to wait.
REFUSED_PROBE_SECONDS = 4.0
# Who fails again so soon after a probe was not well: the pauses go on growing.
RELAPSE_SECONDS = 10.0


class CircuitBreaker:
    """Counts what its owner tells it; no I/O, no tasks. It starts open: nothing is known yet of the other side.

    Open: the owner asks nothing for users; it waits `pause()` seconds, probes, and calls `close` or `refuse`.
    """

    def __init__(
        self,
        *,
        budget_seconds: float,
        on_open: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._budget_seconds = budget_seconds
        self._on_open = on_open
        self._clock = clock
        self._draw = draw
        self._faults: deque[float] = deque(maxlen=FAULTS)
        self._slow: deque[bool] = deque(maxlen=WINDOW)
        self._is_open = True
        self._closed_at = float("-inf")
        self._next_pause = 0.0
        self.opened = 0
        self.reason = "start"

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def state(self) -> Literal["closed", "open"]:
        return "open" if self._is_open else "closed"

    def succeeded(self, seconds: float) -> None:
        """One answer, and how long it took."""
        self._slow.append(seconds > self._budget_seconds)
        if len(self._slow) == WINDOW and self._slow[-1] and sum(self._slow) > SLOW_LIMIT:
            self.trip("slow")

    def failed(self, seconds: float) -> None:
        """One fault: no answer, or an error that says nothing about the key."""
        now = self._clock()
        self._faults.append(now)
        if len(self._faults) == FAULTS and now - self._faults[0] <= FAULTS_SECONDS:
            self.trip("errors")
        else:
            self.succeeded(seconds)

    def trip(self, reason: str) -> None:
        """Opens at once: the answer said that no other will be better."""
        if self._is_open:
            return
        self._is_open = True
        self.opened += 1
        self.reason = reason
        if self._clock() - self._closed_at > RELAPSE_SECONDS:
            self._next_pause = FIRST_PROBE_SECONDS
        self._on_open()

    def pause(self) -> float:
        """Seconds until the next probe, ±20 %; none before the first of all."""
        return self._next_pause * (0.8 + 0.4 * self._draw())

    def refuse(self, *, cheaply: bool) -> None:
        """The probe failed. `cheaply`: nobody listens there, which was told at once."""
        limit = REFUSED_PROBE_SECONDS if cheaply else LAST_PROBE_SECONDS
        self._next_pause = min(limit, max(FIRST_PROBE_SECONDS, 2 * self._next_pause))

    def is_within_budget(self, seconds: float) -> bool:
        return seconds <= self._budget_seconds

    def close(self) -> None:
        """The probe had a good answer."""
        self._is_open = False
        self._closed_at = self._clock()
        self._next_pause = min(LAST_PROBE_SECONDS, max(FIRST_PROBE_SECONDS, 2 * self._next_pause))
        self._faults.clear()
        self._slow.clear()
