"""The circuit breaker: after a few faults no request tries Redis, until a probe in the background succeeds."""

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

MAX_FAULTS = 5
FAULT_WINDOW_SECONDS = 1.0
# The 99th percentile exceeds its budget when more than MAX_SLOW of the latest SLOW_WINDOW replies were slow.
SLOW_WINDOW = 200
MAX_SLOW = SLOW_WINDOW // 100

FIRST_PROBE_SECONDS = 1.0
LAST_PROBE_SECONDS = 30.0
# A refused connection costs nothing, and whoever restarts Redis does not want to wait.
REFUSED_PROBE_SECONDS = 4.0
# If the breaker opens again so soon after a successful probe, the pauses go on growing.
RELAPSE_SECONDS = 10.0


class CircuitBreaker:
    """Counts what its owner reports; it does no I/O and starts no tasks. It starts open: nothing is known about Redis.

    While it is open the owner serves no request from Redis; it waits `pause()` seconds, probes, and calls `close` or
    `reject_probe`. `on_open` is called when it opens.
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
        self._fault_times: deque[float] = deque(maxlen=MAX_FAULTS)
        self._slow: deque[bool] = deque(maxlen=SLOW_WINDOW)
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

    def record_success(self, seconds: float) -> None:
        """A reply, and how long it took. Opens the breaker when too many of the latest replies were slow."""
        self._slow.append(seconds > self._budget_seconds)
        if len(self._slow) == SLOW_WINDOW and self._slow[-1] and sum(self._slow) > MAX_SLOW:
            self.trip("slow")

    def record_fault(self, seconds: float) -> None:
        """No reply, or an error that does not concern the key alone. MAX_FAULTS in FAULT_WINDOW_SECONDS open it."""
        now = self._clock()
        self._fault_times.append(now)
        if len(self._fault_times) == MAX_FAULTS and now - self._fault_times[0] <= FAULT_WINDOW_SECONDS:
            self.trip("errors")
        else:
            self.record_success(seconds)

    def trip(self, reason: str) -> None:
        """Opens immediately: the reply said that no other will be better."""
        if self._is_open:
            return
        self._is_open = True
        self.opened += 1
        self.reason = reason
        if self._clock() - self._closed_at > RELAPSE_SECONDS:
            self._next_pause = FIRST_PROBE_SECONDS
        self._on_open()

    def pause(self) -> float:
        """Seconds until the next probe, ±20 %; 0 before the very first one."""
        return self._next_pause * (0.8 + 0.4 * self._draw())

    def reject_probe(self, *, refused: bool) -> None:
        """The probe failed. `refused`: nothing listens there, which is known immediately and cheap to find out."""
        limit = REFUSED_PROBE_SECONDS if refused else LAST_PROBE_SECONDS
        self._next_pause = min(limit, max(FIRST_PROBE_SECONDS, 2 * self._next_pause))

    def is_within_budget(self, seconds: float) -> bool:
        return seconds <= self._budget_seconds

    def close(self) -> None:
        """The probe succeeded."""
        self._is_open = False
        self._closed_at = self._clock()
        self._next_pause = min(LAST_PROBE_SECONDS, max(FIRST_PROBE_SECONDS, 2 * self._next_pause))
        self._fault_times.clear()
        self._slow.clear()
