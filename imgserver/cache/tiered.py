"""All tiers as one: memory in front, disk and Redis behind it, purges through all of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le, doc
from redis.exceptions import RedisError

from imgserver.cache.disk import DiskSettings, DiskStatistics, DiskTier
from imgserver.cache.invalidation import Generations
from imgserver.cache.memory import MemorySettings, MemoryStatistics, MemoryTier
from imgserver.cache.redis.client import RedisClient, RedisClientStatistics, RedisSettings
from imgserver.cache.redis.invalidation import SharedInvalidation
from imgserver.cache.redis.render_lock import RenderLock
from imgserver.cache.redis.tier import RedisStatistics, RedisTier
from imgserver.cache.sweeper import Sweeper, SweepResult
from imgserver.cache.write_behind import Wish, WriteBehind
from imgserver.plan.rendition import GroupGenerations, Rendition
from imgserver.runtime.background import BackgroundTasks, OnTaskFailure, log_task_failure
from imgserver.runtime.single_flight import SingleFlight

MIB = 1 << 20
MARKS_FILE = "marks.json"

TierName = Literal["memory", "disk", "redis"]
Found = tuple[Rendition, TierName]

# How often what is left to do (generations to post or to save, disks to sweep) is looked at.
TEND_SECONDS = 1.0
# A disk of 100,000 records takes seconds of one thread to sweep: purges of others are gathered meanwhile.
SWEEP_PAUSE = 5
# A purge is done when it is told; how much room it gave back is told as well if that is known so soon.
PURGE_SECONDS = 1.0
CLOSE_SECONDS = 2.0
# Disks fill up in minutes.
MEASURE_SECONDS = 10.0

log = logging.getLogger(__name__)


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
    """`dropped_writes` by why. None: there is no such tier.

    `listening`: purges elsewhere are heard of at once. Without it, memory may serve what was purged elsewhere.
    """

    memory: MemoryStatistics
    disk: DiskStatistics | None
    redis: RedisStatistics | None
    link: RedisClientStatistics | None
    listening: bool
    purges: int
    writes: int
    write_bytes: int
    dropped_writes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """Counts of the removed records by tier, and how far the purge got.

    `propagated` is whether Redis has the new generations, so that all replicas see the purge; otherwise they are sent
    when Redis is back. `incomplete` names the tiers that were not searched completely, with the reason (see
    `SweepResult.incomplete`); the remaining records of such a tier are invalidated and never served.
    """

    memory: int
    disk: int
    redis: int
    propagated: bool
    incomplete: Mapping[str, str]

    @property
    def complete(self) -> bool:
        return not self.incomplete


class TieredCache:
    """Use from one event loop, between `start` and `close`. Nothing but `start` raises.

    A flight notes the generations of its groups first (`generations.note`), keeps them in its rendition, and puts that.
    """

    def __init__(
        self,
        memory: MemoryTier,
        *,
        generations: Generations,
        disk: DiskTier | None = None,
        redis: RedisTier | None = None,
        link: RedisClient | None = None,
        board: SharedInvalidation | None = None,
        settings: TieredSettings = TieredSettings(),
        observe_value: Callable[[int], None] = lambda _: None,
        on_task_failure: OnTaskFailure = log_task_failure,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.memory = memory
        self.generations = generations
        self.disk = disk
        self.redis = redis
        self.render_lock = RenderLock(link) if link is not None else None
        self._client = link
        self._board = board
        self._settings = settings
        self._observe_value = observe_value
        self._clock = clock
        tiers: list[DiskTier | RedisTier | None] = [disk, redis] if settings.first == "disk" else [redis, disk]
        self._tiers = [tier for tier in tiers if tier is not None]
        self._writes = WriteBehind(self._carry_out, limit_bytes=settings.write_queue_bytes)
        self._look_ups = SingleFlight[Found | None]()
        self._tasks = BackgroundTasks(on_failure=on_task_failure, close_seconds=CLOSE_SECONDS)
        self._sweeps: dict[str, Sweeper] = {}
        if disk is not None:
            self._sweeps["disk"] = Sweeper(partial(self._sweep_disk, disk))
        if redis is not None:
            self._sweeps["redis"] = Sweeper(partial(self._sweep_redis, redis))
        # A purge of another replica, who sweeps Redis; the disk here is still to be swept.
        self._heard = False
        self._void = self._purges = 0

    @property
    def redis_client(self) -> RedisClient | None:
        """How Redis is spoken to, for what else the servers share."""
        return self._client

    async def start(self) -> None:
        """Does not wait for the disk's scan, and 0.25 s at most for Redis."""
        await self.generations.load()
        if self.disk is not None:
            await self.disk.start()
            await self._tasks.start("disk_measurement", partial(_measure, self.disk))
        if self._client is not None:
            await self._client.start()
        if self._board is not None:
            listen = partial(self._board.listen, on_news=self._hear, on_gap=self._doubt)
            await self._tasks.start("purge_subscription", listen)
        for _ in range(self._settings.writers):
            await self._tasks.start("write_behind", self._writes.work)
        for name, sweeps in self._sweeps.items():
            await self._tasks.start(f"{name}_sweep", sweeps.work)
        await self._tasks.start("cache_upkeep", self._tend)

    async def close(self) -> None:
        """Gives waiting writes two seconds."""
        await self._writes.drain(seconds=CLOSE_SECONDS)
        await self._tasks.close()
        await self.generations.save()
        if self._client is not None:
            await self._client.close()
        if self.disk is not None:
            await self.disk.close()

    def get_fresh(self, key: str) -> Rendition | None:
        """What memory has, at once: for the hot path."""
        rendition = self.memory.get(key)
        if rendition is not None and not self._is_usable(rendition):
            self.undo_hit()
            return None
        return rendition

    def undo_hit(self) -> None:
        """What was at hand is not used, and looked up again by `get`: then it is counted."""
        self.memory.undo_hit()

    async def get(self, key: str, groups: Sequence[str] = ()) -> Rendition | None:
        """What any tier has, kept in memory from then on. With the key's `groups`, Redis needs one round trip."""
        found = await self.find(key, groups)
        return found[0] if found is not None else None

    async def find(self, key: str, groups: Sequence[str] = ()) -> Found | None:
        """The same, and which tier had it. Those who ask for one key at once look behind memory together."""
        rendition = self._in_memory(key)
        if rendition is not None:
            return rendition, "memory"
        if not self._tiers or self._writes.is_going(key):
            return None
        # Each for itself, a crowd would have one record fetched a thousand times. That takes longer than the time-out,
        # and would be taken for a fault of Redis.
        found = await self._look_ups.run_inline(key, lambda: self.find_below_memory(key, groups))
        # Who joined may have asked after a purge that the look-up did not know of.
        return found if found is not None and self._is_usable(found[0]) else None

    async def find_below_memory(self, key: str, groups: Sequence[str] = ()) -> Found | None:
        """What disk or Redis has now: a look-up that began before the call may have come too early."""
        for tier in self._tiers:
            rendition = await (tier.get(key, self._unsure(groups)) if isinstance(tier, RedisTier) else tier.get(key))
            if rendition is None:
                continue
            if not self._is_over(rendition) and await self.generations.confirm(rendition.generations):
                self.memory.put(key, rendition)
                return rendition, "redis" if tier is self.redis else "disk"
            tier.note_stale()
            self.drop(key)
        return None

    def _unsure(self, groups: Sequence[str]) -> Sequence[str]:
        """Those whose generations are to be asked for with a record: none while news of purges come in by
        themselves."""
        hears = self._board is not None and self._board.hears
        return () if hears and self.generations.are_recent(groups) else groups

    def _in_memory(self, key: str) -> Rendition | None:
        rendition = self.memory.get(key)
        if rendition is None:
            self.memory.count_miss()
        elif not self._is_usable(rendition):
            self.memory.note_stale()
            self.memory.drop(key)
            return None
        return rendition

    def put(self, key: str, rendition: Rendition) -> bool:
        """Into memory at once, and into the others behind the caller's back. False: it was purged while it was made."""
        if not self.generations.are_current(rendition.generations):
            self._void += 1
            return False
        self._observe_value(len(rendition.body))
        self.memory.put(key, rendition)
        if self._tiers:
            self._writes.wish(key, rendition)
        return True

    def drop(self, key: str) -> None:
        """Forgets one record: at once in memory, soon in the others; other replicas keep theirs (see `purge`)."""
        self.memory.drop(key)
        if self._tiers:
            self._writes.wish(key, None)

    async def written(self, key: str, *, seconds: float) -> bool:
        """Waits until what was put is in every tier that takes it: before a render lock is released."""
        return await self._writes.carried_out(key, seconds=seconds)

    async def purge(self, groups: Sequence[str]) -> PurgeResult:
        """Voids every record of these groups, here and in every replica, then removes them; see `groups.py`.

        A render that noted its generations before is neither stored nor served to who asks after it.
        """
        self._purges += 1
        propagated = await self.generations.bump(groups)
        memory = self.memory.sweep(lambda rendition: self.generations.are_current(rendition.generations))
        return await self._swept(memory, groups, propagated=propagated, seconds=PURGE_SECONDS)

    async def sweep(self, *, seconds: float) -> PurgeResult:
        """Removes what is over or void anyway, for the room it takes. Waits so long for the end of it."""
        memory = self.memory.sweep(self._is_usable)
        return await self._swept(memory, (), propagated=True, seconds=seconds)

    async def _swept(self, memory: int, groups: Sequence[str], *, propagated: bool, seconds: float) -> PurgeResult:
        found = await asyncio.gather(*(sweeps.ask(groups, seconds=seconds) for sweeps in self._sweeps.values()))
        by_tier = dict(zip(self._sweeps, found, strict=True))
        return PurgeResult(
            memory=memory,
            disk=by_tier.get("disk", SweepResult()).removed,
            redis=by_tier.get("redis", SweepResult()).removed,
            propagated=propagated,
            incomplete={name: swept.incomplete for name, swept in by_tier.items() if swept.incomplete},
        )

    def statistics(self) -> CacheStatistics:
        return CacheStatistics(
            memory=self.memory.statistics(),
            disk=self.disk.statistics() if self.disk is not None else None,
            redis=self.redis.statistics() if self.redis is not None else None,
            link=self._client.statistics() if self._client is not None else None,
            listening=self._board is not None and self._board.listening,
            purges=self._purges,
            writes=len(self._writes),
            write_bytes=self._writes.bytes,
            dropped_writes={"budget": self._writes.dropped, "purged": self._void},
        )

    def _is_usable(self, rendition: Rendition) -> bool:
        return not self._is_over(rendition) and self.generations.are_current(rendition.generations)

    def _is_over(self, rendition: Rendition) -> bool:
        return rendition.expires is not None and rendition.expires <= self._clock()

    async def _carry_out(self, key: str, wish: Wish) -> None:
        if wish is not None and not await self.generations.confirm(wish.generations):
            self._void += 1
            return
        for tier in self._tiers:
            if wish is None:
                await tier.drop(key)
            else:
                await tier.put(key, wish)

    async def _sweep_disk(self, disk: DiskTier, _: frozenset[str]) -> SweepResult:
        """For everything that is known to be void: whoever reads a file's head may as well."""
        return await disk.sweep(self._keeper(self.generations.all_known()))

    async def _sweep_redis(self, redis: RedisTier, groups: frozenset[str]) -> SweepResult:
        tokens = dict(self.generations.known(groups)) if groups else self.generations.all_known()
        try:
            return SweepResult(await redis.sweep(self._keeper(tokens), tuple(groups)))
        except (RedisError, OSError) as error:
            log.warning("The sweep of Redis did not come to its end: %s", error)
            return SweepResult(incomplete="failed")

    def _keeper(self, tokens: Mapping[str, str]) -> Callable[[float | None, GroupGenerations], bool]:
        """Judges by these tokens alone: of other groups this process may not know the generations."""
        now = self._clock()

        def keeps(expires: float | None, generations: GroupGenerations) -> bool:
            if expires is not None and expires <= now:
                return False
            return all(tokens.get(group, token) == token for group, token in generations)

        return keeps

    def _hear(self, tokens: dict[str, str]) -> None:
        """Another replica has purged; or this one, who knows."""
        if all(token == tokens[group] for group, token in self.generations.known(tokens)):
            return
        self.generations.learn(tokens)
        self.memory.sweep(lambda rendition: self.generations.are_current(rendition.generations))
        self._heard = True

    def _doubt(self) -> None:
        """A purge may have been missed while the subscription was away."""
        self.generations.doubt()
        self.memory.sweep(lambda _: False)

    async def _tend(self) -> None:
        pause = TEND_SECONDS
        while True:
            await asyncio.sleep(pause)
            begun = time.monotonic()
            await self.generations.post()
            await self.generations.save()
            if self._heard and "disk" in self._sweeps:
                self._heard = False
                await self._sweeps["disk"].ask((), seconds=None)
            pause = max(TEND_SECONDS, SWEEP_PAUSE * (time.monotonic() - begun))


async def _measure(disk: DiskTier) -> None:
    with suppress(OSError):
        await disk.scanned()
    while True:
        await disk.measure()
        await asyncio.sleep(MEASURE_SECONDS)


def assemble(
    memory: MemorySettings,
    *,
    disk: DiskSettings | None = None,
    redis: RedisSettings | None = None,
    settings: TieredSettings = TieredSettings(),
    observe: Callable[[str, float], None] = lambda *_: None,
    observe_value: Callable[[int], None] = lambda _: None,
    on_purge: Callable[[Collection[str]], None] = lambda _: None,
    on_task_failure: OnTaskFailure = log_task_failure,
) -> TieredCache:
    """The tiers of a configuration, not started. `observe(op, seconds)` is told of every answered Redis command,
    `observe_value(bytes)` of every body that is kept, `on_purge(groups)` of what another server has purged.

    ValueError: `redis.url` or its namespace cannot be used.
    """
    link = (
        RedisClient(redis, observe=observe, on_task_failure=on_task_failure)
        if redis is not None and redis.url
        else None
    )
    board = SharedInvalidation(link) if link is not None else None
    path: Path | None = disk.path / MARKS_FILE if disk is not None else None
    generations = Generations(shared=board, path=path, on_purge=on_purge)
    return TieredCache(
        MemoryTier(memory),
        generations=generations,
        disk=DiskTier(disk) if disk is not None else None,
        redis=RedisTier(link, generations) if link is not None else None,
        link=link,
        board=board,
        settings=settings,
        observe_value=observe_value,
        on_task_failure=on_task_failure,
    )
