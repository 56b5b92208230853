"""The tiered cache: memory in front, the slower tiers below it, purges through all of them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from annotated_types import Ge, Le, doc

from imgserver.cache.invalidation import Generations
from imgserver.cache.memory import MemoryTier
from imgserver.cache.redis.client import RedisClient, RedisClientStatistics
from imgserver.cache.redis.invalidation import SharedInvalidation
from imgserver.cache.redis.render_lock import RenderLock
from imgserver.cache.sweeper import TierSweepers
from imgserver.cache.tier import Tier, TierStatistics
from imgserver.cache.write_behind import Change, WriteBehind
from imgserver.plan.rendition import GroupGenerations, Rendition
from imgserver.runtime.background import BackgroundTasks, OnTaskFailure, log_task_failure
from imgserver.runtime.resources import MIB
from imgserver.runtime.single_flight import SingleFlight

MEMORY = "memory"

# A rendition, and the name of the tier that had it.
Found = tuple[Rendition, str]

# How often generations are saved and published, and local tiers swept, if that is due.
MAINTENANCE_SECONDS = 1.0
# A sweep of 100,000 records on disk keeps one thread busy for seconds. The pause after it is so many times as long, in
# which purges of other servers accumulate.
PAUSE_FACTOR = 5
# A purge is in force once its generations are set. It waits only so long to report how many records were removed.
PURGE_SECONDS = 1.0
# The sweep of memory after purges of other servers: the entries of a slice, which takes about a millisecond, the groups
# of one command to Redis, and the shortest pause.
SLICE_ENTRIES = 500
FETCHED_GROUPS = 200
MEMORY_PAUSE_SECONDS = 0.1
CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class TieredSettings:
    """The order of the tiers below memory, and the bounds of their background writes."""

    write_queue_bytes: Annotated[
        int, Ge(0), doc("memory for renditions that wait to be written; further ones are not written")
    ] = 32 * MIB
    writers: Annotated[int, Ge(1), Le(64), doc("renditions written at the same time")] = 4
    first: Annotated[Literal["disk", "redis"], doc("which of disk and Redis is read first")] = "disk"


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """`tiers` by name, memory first, then in the order of lookups. `dropped_writes` by reason.

    `redis_client`: None without Redis. `subscribed`: purges of other servers arrive immediately; while False, memory
    may return what another server has purged.
    """

    tiers: Mapping[str, TierStatistics]
    redis_client: RedisClientStatistics | None
    subscribed: bool
    purges: int
    pending_writes: int
    pending_write_bytes: int
    dropped_writes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """`removed` records by tier; those of Redis are shared by all servers. `propagated`: the other servers know; else
    they will when Redis is back. `incomplete` names the tiers that were not searched to their end, and why (see
    `SweepResult`); records that are still there are invalid and never returned.
    """

    removed: Mapping[str, int]
    propagated: bool
    incomplete: Mapping[str, str]

    @property
    def complete(self) -> bool:
        return not self.incomplete


class TieredCache:
    """Use it from one event loop, between `start` and `close`. Only `start` raises.

    A render first fetches the generations of its groups (`generations.fetch`), and puts a rendition that has them.
    """

    def __init__(
        self,
        memory: MemoryTier,
        tiers: Mapping[str, Tier],
        *,
        generations: Generations,
        redis_client: RedisClient | None = None,
        shared: SharedInvalidation | None = None,
        settings: TieredSettings = TieredSettings(),
        observe_value: Callable[[int], None] = lambda _: None,
        on_task_failure: OnTaskFailure = log_task_failure,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`tiers`: those below memory, in the order of lookups."""
        self.memory = memory
        self.tiers = tiers
        self.generations = generations
        self.redis_client = redis_client
        self.render_lock = RenderLock(redis_client) if redis_client is not None else None
        self._shared = shared
        self._settings = settings
        self._observe_value = observe_value
        self._clock = clock
        self._writes = WriteBehind(self._write, limit_bytes=settings.write_queue_bytes)
        self._lookups = SingleFlight[Found | None]()
        self._tasks = BackgroundTasks(on_failure=on_task_failure, close_seconds=CLOSE_SECONDS)
        self._sweepers = TierSweepers(tiers, generations, lambda: self._clock())
        # Found by a tier, but expired or invalidated.
        self._stale = dict.fromkeys((MEMORY, *tiers), 0)
        # Another server has purged, and swept Redis; the tiers of this server are not swept yet.
        self._sweep_due = False
        # The same for memory, which is swept sooner; `_unverified`: purges may have been missed.
        self._memory_due = asyncio.Event()
        self._unverified_memory = False
        self._invalidated = self._purges = 0

    async def start(self) -> None:
        """Waits 0.25 s at most for Redis, and not for the scan of the disk."""
        await self.generations.load()
        for tier in (self.memory, *self.tiers.values()):
            await tier.start()
        if self.redis_client is not None:
            await self.redis_client.start()
        if self._shared is not None:
            subscribe = partial(self._shared.subscribe, on_purge=self._on_purge_elsewhere, on_gap=self._on_gap)
            await self._tasks.start("purge_subscription", subscribe)
            await self._tasks.start("memory_sweep", self._sweep_memory_forever)
        for _ in range(self._settings.writers):
            await self._tasks.start("write_behind", self._writes.run)
        await self._sweepers.start(self._tasks)
        await self._tasks.start("cache_maintenance", self._maintain)

    async def close(self) -> None:
        """Gives pending writes two seconds."""
        await self._writes.drain(seconds=CLOSE_SECONDS)
        await self._tasks.close()
        await self.generations.save()
        if self.redis_client is not None:
            await self.redis_client.close()
        for tier in (self.memory, *self.tiers.values()):
            await tier.close()

    def get_fresh(self, key: str) -> Rendition | None:
        """The valid rendition in memory, without I/O: for the fast path. The caller may `undo_hit`."""
        rendition = self.memory.get_nowait(key)
        if rendition is not None and not self._is_valid(rendition):
            self.undo_hit()
            return None
        return rendition

    def undo_hit(self) -> None:
        """The caller does not use what `get_fresh` returned, and calls `find`, which counts the lookup."""
        self.memory.undo_hit()

    async def get(self, key: str, groups: Sequence[str] = ()) -> Rendition | None:
        """The rendition of `find`."""
        found = await self.find(key, groups)
        return found[0] if found is not None else None

    async def find(self, key: str, groups: Sequence[str] = ()) -> Found | None:
        """Looks through all tiers; a rendition found below memory is stored in memory. With the `groups` of the key,
        Redis needs one round trip instead of two."""
        rendition = self._find_in_memory(key)
        if rendition is not None:
            return rendition, MEMORY
        if not self.tiers or self._writes.is_dropping(key):
            return None
        # Concurrent requests share one lookup. A thousand transfers of one record would take longer than the time-out
        # of Redis, and the circuit breaker would take that for a fault.
        found = await self._lookups.run_inline(key, lambda: self.find_below_memory(key, groups))
        # The key may have been purged after the shared lookup checked it and before this request joined.
        return found if found is not None and self._is_valid(found[0]) else None

    async def find_below_memory(self, key: str, groups: Sequence[str] = ()) -> Found | None:
        """A lookup that begins now, and is not shared: an earlier one may have come before another server's write. An
        invalid record is replaced by the valid one of a later tier, or dropped."""
        has_stale = False
        for name, tier in self.tiers.items():
            rendition = await tier.get(key, self._unverified(groups))
            if rendition is None:
                continue
            if not self._is_expired(rendition) and await self.generations.confirm(rendition.generations):
                self.memory.put_nowait(key, rendition)
                if has_stale:
                    self._writes.schedule(key, rendition)
                return rendition, name
            self._stale[name] += 1
            has_stale = True
        if has_stale:
            self.drop(key)
        return None

    def put(self, key: str, rendition: Rendition) -> bool:
        """Stores it in memory, and in the other tiers in the background. False: it was purged during its render."""
        if not self.generations.are_current(rendition.generations):
            self._invalidated += 1
            return False
        self._observe_value(len(rendition.body))
        self.memory.put_nowait(key, rendition)
        if self.tiers:
            self._writes.schedule(key, rendition)
        return True

    def drop(self, key: str) -> None:
        """Removes one record: from memory immediately, from the other tiers in the background. The memory of other
        servers keeps it; see `purge`."""
        self.memory.drop_nowait(key)
        if self.tiers:
            self._writes.schedule(key, None)

    async def wait_written(self, key: str, *, seconds: float) -> bool:
        """Waits until what was put is in every tier that accepts it: before a render lock is released."""
        return await self._writes.wait_applied(key, seconds=seconds)

    async def purge(self, groups: Sequence[str]) -> PurgeResult:
        """Invalidates every record of these cache groups on all servers, then removes the records.

        A render that fetched its generations before is neither stored nor returned to a request that comes after.
        """
        self._purges += 1
        propagated = await self.generations.bump(groups)
        in_memory = self._sweep_memory_of_invalid()
        return await self._sweep_all(in_memory, groups, propagated=propagated, seconds=PURGE_SECONDS)

    async def sweep(self, *, seconds: float) -> PurgeResult:
        """Removes expired and invalidated records to free their space. Waits `seconds` at most; the sweep goes on."""
        in_memory = self.memory.sweep_nowait(self._is_valid_record)
        return await self._sweep_all(in_memory, (), propagated=True, seconds=seconds)

    def statistics(self) -> CacheStatistics:
        return CacheStatistics(
            tiers={
                name: _with_stale(tier.statistics(), self._stale[name])
                for name, tier in ((MEMORY, self.memory), *self.tiers.items())
            },
            redis_client=self.redis_client.statistics() if self.redis_client is not None else None,
            subscribed=self._shared is not None and self._shared.subscribed,
            purges=self._purges,
            pending_writes=len(self._writes),
            pending_write_bytes=self._writes.bytes,
            dropped_writes={"budget": self._writes.dropped, "purged": self._invalidated},
        )

    def _find_in_memory(self, key: str) -> Rendition | None:
        rendition = self.memory.get_nowait(key)
        if rendition is None:
            self.memory.count_miss()
        elif not self._is_valid(rendition):
            self._stale[MEMORY] += 1
            self.memory.drop_nowait(key)
            return None
        return rendition

    def _unverified(self, groups: Sequence[str]) -> Sequence[str]:
        """The groups whose generations must be read along with the record: none while purges of others arrive."""
        hears = self._shared is not None and self._shared.is_alive
        return () if hears and self.generations.are_recent(groups) else groups

    def _is_valid(self, rendition: Rendition) -> bool:
        return self._is_valid_record(rendition.expires, rendition.generations)

    def _is_valid_record(self, expires: float | None, generations: GroupGenerations) -> bool:
        return (expires is None or expires > self._clock()) and self.generations.are_current(generations)

    def _is_expired(self, rendition: Rendition) -> bool:
        return rendition.expires is not None and rendition.expires <= self._clock()

    async def _write(self, key: str, change: Change) -> None:
        if change is not None and not await self.generations.confirm(change.generations):
            self._invalidated += 1
            return
        for tier in self.tiers.values():
            if change is None:
                await tier.drop(key)
            else:
                await tier.put(key, change)

    async def _sweep_all(
        self, in_memory: int, groups: Sequence[str], *, propagated: bool, seconds: float
    ) -> PurgeResult:
        by_tier = await self._sweepers.request(groups, seconds=seconds)
        return PurgeResult(
            removed={MEMORY: in_memory, **{name: result.removed for name, result in by_tier.items()}},
            propagated=propagated,
            incomplete={name: result.incomplete for name, result in by_tier.items() if result.incomplete},
        )

    def _sweep_memory_of_invalid(self) -> int:
        return self.memory.sweep_nowait(lambda _, generations: self.generations.are_current(generations))

    def _on_purge_elsewhere(self, tokens: dict[str, str]) -> None:
        """Also called for the purges of this server, whose tokens are known."""
        if all(token == tokens[group] for group, token in self.generations.known(tokens)):
            return
        # From now on, no invalid rendition is served. The sweep only frees its space.
        self.generations.learn(tokens)
        self._sweep_due = True
        self._memory_due.set()

    def _on_gap(self) -> None:
        """Purges may have been missed: before the subscription, or by a message that could not be read."""
        self.generations.distrust_copies()
        self._unverified_memory = True
        self._memory_due.set()

    async def _sweep_memory_forever(self) -> None:
        """Sweeps memory after purges of other servers: in slices, because a hit must not wait for it, and with pauses,
        in which purges accumulate."""
        while True:
            await self._memory_due.wait()
            self._memory_due.clear()
            begun = time.monotonic()
            if self._unverified_memory:
                self._unverified_memory = False
                await self._verify_memory()
            for keys in self.memory.slices(SLICE_ENTRIES):
                self.memory.sweep_keys(keys, lambda _, generations: self.generations.are_current(generations))
                await asyncio.sleep(0)
            await asyncio.sleep(max(MEMORY_PAUSE_SECONDS, PAUSE_FACTOR * (time.monotonic() - begun)))

    async def _verify_memory(self) -> None:
        """Fetches the generations of everything in memory. What cannot be verified is removed."""
        for keys in self.memory.slices(SLICE_ENTRIES):
            groups = self.memory.groups_of(keys)
            for start in range(0, len(groups), FETCHED_GROUPS):
                await self.generations.fetch(groups[start : start + FETCHED_GROUPS])
            self.memory.sweep_keys(
                keys, lambda _, generations: self.generations.are_recent(group for group, _ in generations)
            )

    async def _maintain(self) -> None:
        pause = MAINTENANCE_SECONDS
        while True:
            await asyncio.sleep(pause)
            begun = time.monotonic()
            await self.generations.publish()
            await self.generations.save()
            if self._sweep_due:
                self._sweep_due = False
                await self._sweepers.sweep_unshared()
            pause = max(MAINTENANCE_SECONDS, PAUSE_FACTOR * (time.monotonic() - begun))


def _with_stale(statistics: TierStatistics, stale: int) -> TierStatistics:
    return replace(statistics, hits=statistics.hits - stale, stale=stale)
