"""Probes: while a circuit breaker is open, a command in the background finds out when Redis is healthy again."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from redis.exceptions import ConnectionError as RedisConnectionError

from imgserver.cache.redis.circuit_breaker import CircuitBreaker
from imgserver.cache.redis.faults import kind_of
from imgserver.cache.redis.pipeline import ConnectionLost

# The time-out of probes and of everything else that no request waits for.
BACKGROUND_SECONDS = 1.0
# A refusal within this time says that nothing listens there.
REFUSED_SECONDS = 0.02

log = logging.getLogger(__name__)


class ProbedBreaker:
    """The circuit breaker of all reads or of all writes, with the probe that closes it.

    `probe` is one command like those of requests. `faults` counts its faults by kind. `probed` is set after the first
    probe.
    """

    def __init__(
        self, name: str, probe: Callable[[], Awaitable[object]], *, budget_seconds: float, faults: Counter[str]
    ) -> None:
        self.name = name
        self._probe = probe
        self._faults = faults
        self.probed = asyncio.Event()
        self._opened = asyncio.Event()
        self._opened.set()
        self.breaker = CircuitBreaker(budget_seconds=budget_seconds, on_open=self._on_open)
        self._logged = False

    async def run(self) -> None:
        """Probes while the breaker is open, until it is cancelled."""
        while True:
            await self._opened.wait()
            await asyncio.sleep(self.breaker.pause())
            begun = time.monotonic()
            try:
                seconds = await self._measure()
            except Exception as error:
                # Any: whatever listens there need not be a Redis.
                self._reject(error, time.monotonic() - begun)
            else:
                self._accept(seconds)
            self.probed.set()

    async def _measure(self) -> float:
        """Returns the seconds that a command of a request would take. The first probe may have to connect; only the
        second is measured."""
        async with asyncio.timeout(BACKGROUND_SECONDS):
            await self._probe()
            begun = time.monotonic()
            await self._probe()
            return time.monotonic() - begun

    def _reject(self, error: Exception, seconds: float) -> None:
        """Logs only the first failure while the breaker is open."""
        if not self._logged:
            self._logged = True
            fields = {"commands": self.name, "error": str(error) or type(error).__name__}
            log.warning("redis.probe_failed", extra=fields)
        self._faults[kind_of(error)] += 1
        refused = isinstance(error, OSError) or type(error) in (RedisConnectionError, ConnectionLost)
        self.breaker.reject_probe(refused=refused and seconds < REFUSED_SECONDS)

    def _accept(self, seconds: float) -> None:
        if not self.breaker.is_within_budget(seconds):
            self.breaker.reject_probe(refused=False)
            return
        self._opened.clear()
        self._logged = False
        self.breaker.close()
        log.info("redis.breaker_closed", extra={"commands": self.name})

    def _on_open(self) -> None:
        self._opened.set()
        log.warning("redis.breaker_opened", extra={"commands": self.name, "reason": self.breaker.reason})
