"""The sweeper: sweeps one tier in the background, one sweep at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from imgserver.cache.tier import SweepResult

# A sweep for more groups than this searches everything.
MAX_GROUPS = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Round:
    done: "asyncio.Future[SweepResult]"
    groups: set[str] = field(default_factory=set)


class Sweeper:
    """Requests that come during a sweep share the next one.

    `sweep(groups)` searches the tier for records of these groups that were invalidated; no groups: for every record
    that can be removed. `run` calls it.
    """

    def __init__(self, sweep: Callable[[frozenset[str]], Awaitable[SweepResult]]) -> None:
        self._sweep = sweep
        self._rounds: asyncio.Queue[_Round] = asyncio.Queue()
        self._next: _Round | None = None

    async def request(self, groups: Iterable[str], *, seconds: float | None) -> SweepResult:
        """Returns the result of a sweep that began after this call, or "running" after `seconds`; the sweep goes on."""
        done = self._join_next(frozenset(groups))
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(done)
        except TimeoutError:
            return SweepResult(incomplete="running")

    async def run(self) -> None:
        """Runs until it is cancelled; the requests that still wait get "failed" then."""
        try:
            while True:
                one = await self._rounds.get()
                self._next = None
                await self._finish(one)
        except asyncio.CancelledError:
            if self._next is not None:
                self._next.done.set_result(SweepResult(incomplete="failed"))
            raise

    async def _finish(self, one: _Round) -> None:
        result = SweepResult(incomplete="failed")
        try:
            result = await self._sweep(frozenset(one.groups))
        except Exception:
            log.exception("cache.sweep_failed")
        finally:
            one.done.set_result(result)

    def _join_next(self, groups: frozenset[str]) -> "asyncio.Future[SweepResult]":
        if self._next is None:
            self._next = _Round(asyncio.get_running_loop().create_future(), set(groups))
            self._rounds.put_nowait(self._next)
        elif self._next.groups:
            self._next.groups.update(groups)
            if not groups or len(self._next.groups) > MAX_GROUPS:
                self._next.groups.clear()
        return self._next.done
