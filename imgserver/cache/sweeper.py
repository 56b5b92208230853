"""Sweeps in the background: they remove the expired and invalidated records of a tier, one sweep at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from imgserver.cache.invalidation import Generations
from imgserver.cache.tier import IsKept, SweepResult, Tier
from imgserver.plan.rendition import GroupGenerations
from imgserver.runtime.background import BackgroundTasks

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


class TierSweepers:
    """One sweeper per tier. `clock` is that of `expires`."""

    def __init__(self, tiers: Mapping[str, Tier], generations: Generations, clock: Callable[[], float]) -> None:
        self._tiers = tiers
        self._generations = generations
        self._clock = clock
        self._sweepers = {name: Sweeper(partial(self._sweep, tier)) for name, tier in tiers.items()}

    async def start(self, tasks: BackgroundTasks) -> None:
        for name, sweeper in self._sweepers.items():
            await tasks.start(f"{name}_sweep", sweeper.run)

    async def request(self, groups: Sequence[str], *, seconds: float) -> dict[str, SweepResult]:
        """Sweeps every tier; waits `seconds` at most. See `Sweeper.request`."""
        results = await asyncio.gather(*(one.request(groups, seconds=seconds) for one in self._sweepers.values()))
        return dict(zip(self._sweepers, results, strict=True))

    async def sweep_unshared(self) -> None:
        """Sweeps the tiers of this server alone, after another server has purged and has swept the shared ones."""
        for name, tier in self._tiers.items():
            if not tier.is_shared:
                await self._sweepers[name].request((), seconds=None)

    async def _sweep(self, tier: Tier, groups: frozenset[str]) -> SweepResult:
        """Removes whatever is known to be invalid. Of a shared tier only what these groups say: this server may have
        missed newer generations of other groups."""
        narrow = tier.is_shared and groups
        tokens = dict(self._generations.known(groups)) if narrow else self._generations.all_known()
        return await tier.sweep(self._is_kept(tokens), tuple(groups))

    def _is_kept(self, tokens: Mapping[str, str]) -> IsKept:
        """Judges by these tokens alone; a group without one is not judged."""
        now = self._clock()

        def is_kept(expires: float | None, generations: GroupGenerations) -> bool:
            if expires is not None and expires <= now:
                return False
            return all(tokens.get(group, token) == token for group, token in generations)

        return is_kept
