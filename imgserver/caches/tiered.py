"""All tiers as one: memory in front, disk and Redis behind it, purges through all of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import aiojobs
from annotated_types import Ge, Le
from redis.exceptions import RedisError

from imgserver.caches import Tier
from imgserver.caches.board import Board
from imgserver.caches.disk import DiskCache, DiskSettings, DiskStatistics
from imgserver.caches.link import Link, LinkStatistics, RedisSettings
from imgserver.caches.lock import RenderLock
from imgserver.caches.marks import PurgeMarks
from imgserver.caches.memory import MemoryCache, MemorySettings, MemoryStatistics
from imgserver.caches.redis import RedisCache, RedisStatistics
from imgserver.caches.writes import Wish, Writes
from imgserver.rendition import Marks, Rendition

MIB = 1 << 20
MARKS_FILE = "marks.json"

TierName = Literal["memory", "disk", "redis"]

# How often what is left to do (marks to post or to save, disks to sweep) is looked at.
TEND_SECONDS = 1.0
# A disk of 100,000 records takes seconds of one thread to sweep: purges of others are gathered meanwhile.
SWEEP_PAUSE = 5
CLOSE_SECONDS = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TieredSettings:
    """`write_bytes` bounds what waits to be written behind the answers, by `writers` at once; over it: dropped.

    `first` is which of disk and Redis is asked first.
    """

    write_bytes: Annotated[int, Ge(0)] = 32 * MIB
    writers: Annotated[int, Ge(1), Le(64)] = 4
    first: Literal["disk", "redis"] = "disk"


@dataclass(frozen=True, slots=True)
class TieredStatistics:
    """`stale` records were found and were purged or over; `dropped_writes` by why. None: there is no such tier.

    `listening`: purges elsewhere are heard of at once. Without it, memory may serve what was purged elsewhere.
    """

    memory: MemoryStatistics
    disk: DiskStatistics | None
    redis: RedisStatistics | None
    link: LinkStatistics | None
    listening: bool
    stale: int
    purges: int
    writes: int
    write_bytes: int
    dropped_writes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PurgeCounts:
    """Records removed here and from Redis. `told`: the other replicas know; else they will when Redis is back.
    `swept`: every tier was searched to its end. What was not swept is void all the same."""

    memory: int
    disk: int
    redis: int
    told: bool
    swept: bool


class Tiered:
    """Use from one event loop, between `start` and `close`. Nothing but `start` raises.

    A flight notes the marks of its groups first (`marks.note`), keeps them in its rendition, and puts that.
    """

    def __init__(
        self,
        memory: MemoryCache,
        *,
        marks: PurgeMarks,
        disk: DiskCache | None = None,
        redis: RedisCache | None = None,
        link: Link | None = None,
        board: Board | None = None,
        settings: TieredSettings = TieredSettings(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.memory = memory
        self.marks = marks
        self.disk = disk
        self.redis = redis
        self.lock = RenderLock(link) if link is not None else None
        self._link = link
        self._board = board
        self._settings = settings
        self._clock = clock
        tiers: list[Tier | None] = [disk, redis] if settings.first == "disk" else [redis, disk]
        self._tiers = [tier for tier in tiers if tier is not None]
        self._writes = Writes(self._carry_out, limit_bytes=settings.write_bytes)
        self._scheduler = aiojobs.Scheduler(limit=None, close_timeout=CLOSE_SECONDS)
        self._to_sweep: dict[str, str] = {}
        self._stale = self._void = self._purges = 0

    async def start(self) -> None:
        """Does not wait for the disk's scan, and 0.25 s at most for Redis."""
        await self.marks.load()
        if self.disk is not None:
            await self.disk.start()
        if self._link is not None:
            await self._link.start()
        if self._board is not None:
            await self._scheduler.spawn(self._board.listen(on_news=self._hear, on_gap=self._doubt))
        for _ in range(self._settings.writers):
            await self._scheduler.spawn(self._writes.work())
        await self._scheduler.spawn(self._tend())

    async def close(self) -> None:
        """Gives waiting writes two seconds."""
        await self._writes.drain(seconds=CLOSE_SECONDS)
        await self._scheduler.close()
        await self.marks.save()
        if self._link is not None:
            await self._link.close()
        if self.disk is not None:
            await self.disk.close()

    def at_hand(self, key: str) -> Rendition | None:
        """What memory has, at once: for the hot path."""
        rendition = self.memory.get(key)
        if rendition is None:
            return None
        if self._is_over(rendition) or not self.marks.are_current(rendition.marks):
            self.memory.drop(key)
            self._stale += 1
            return None
        return rendition

    async def get(self, key: str, groups: Sequence[str] = ()) -> Rendition | None:
        """What any tier has, kept in memory from then on. With the key's `groups`, Redis needs one round trip."""
        found = await self.find(key, groups)
        return found[0] if found is not None else None

    async def find(self, key: str, groups: Sequence[str] = ()) -> tuple[Rendition, TierName] | None:
        """The same, and which tier had it."""
        rendition = self.at_hand(key)
        if rendition is not None:
            return rendition, "memory"
        self.memory.note_miss()
        if self._writes.is_going(key):
            return None
        for tier in self._tiers:
            rendition = await (tier.get(key, groups) if isinstance(tier, RedisCache) else tier.get(key))
            if rendition is None:
                continue
            if not self._is_over(rendition) and await self.marks.confirm(rendition.marks):
                self.memory.put(key, rendition)
                return rendition, "redis" if tier is self.redis else "disk"
            self._stale += 1
            self.drop(key)
        return None

    def put(self, key: str, rendition: Rendition) -> bool:
        """Into memory at once, and into the others behind the caller's back. False: it was purged while it was made."""
        if not self.marks.are_current(rendition.marks):
            self._void += 1
            return False
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

    async def purge(self, groups: Sequence[str]) -> PurgeCounts:
        """Voids every record of these groups, here and in every replica, then removes them; see `groups.py`.

        A render that noted its marks before is neither stored nor served to who asks after it.
        """
        self._purges += 1
        told = await self.marks.renew(groups)
        tokens = dict(self.marks.at(groups))
        memory = self.memory.sweep(lambda rendition: self.marks.are_current(rendition.marks))
        redis = await self._sweep_redis(tokens)
        disk = await self.disk.sweep(self._keeper(tokens)) if self.disk is not None else 0
        swept = redis is not None and (self.disk is None or self.disk.statistics().scanned)
        return PurgeCounts(memory=memory, disk=disk, redis=redis or 0, told=told, swept=swept)

    async def sweep(self) -> PurgeCounts:
        """Removes what is over or void anyway, for the room it takes."""
        tokens = self.marks.known()
        memory = self.memory.sweep(lambda rendition: not self._is_over(rendition))
        redis = await self._sweep_redis(tokens)
        disk = await self.disk.sweep(self._keeper(tokens)) if self.disk is not None else 0
        return PurgeCounts(memory=memory, disk=disk, redis=redis or 0, told=True, swept=redis is not None)

    def statistics(self) -> TieredStatistics:
        return TieredStatistics(
            memory=self.memory.statistics(),
            disk=self.disk.statistics() if self.disk is not None else None,
            redis=self.redis.statistics() if self.redis is not None else None,
            link=self._link.statistics() if self._link is not None else None,
            listening=self._board is not None and self._board.listening,
            stale=self._stale,
            purges=self._purges,
            writes=len(self._writes),
            write_bytes=self._writes.bytes,
            dropped_writes={"budget": self._writes.dropped, "purged": self._void},
        )

    def _is_over(self, rendition: Rendition) -> bool:
        return rendition.expires is not None and rendition.expires <= self._clock()

    async def _carry_out(self, key: str, wish: Wish) -> None:
        if wish is not None and not await self.marks.confirm(wish.marks):
            self._void += 1
            return
        for tier in self._tiers:
            if wish is None:
                await tier.drop(key)
            else:
                await tier.put(key, wish)

    async def _sweep_redis(self, tokens: Mapping[str, str]) -> int | None:
        """None: Redis was away, at once or in the middle."""
        if self.redis is None:
            return 0
        try:
            return await self.redis.sweep(self._keeper(tokens), tuple(tokens))
        except (RedisError, OSError) as error:
            log.warning("The sweep of Redis did not come to its end: %s", error)
            return None

    def _keeper(self, tokens: Mapping[str, str]) -> Callable[[float | None, Marks], bool]:
        """Judges by these tokens alone: of other groups this process may not know the marks."""
        now = self._clock()

        def keeps(expires: float | None, marks: Marks) -> bool:
            if expires is not None and expires <= now:
                return False
            return all(tokens.get(group, token) == token for group, token in marks)

        return keeps

    def _hear(self, tokens: dict[str, str]) -> None:
        """Another replica has purged; or this one, who knows."""
        if all(token == tokens[group] for group, token in self.marks.at(tokens)):
            return
        self.marks.learn(tokens)
        self.memory.sweep(lambda rendition: self.marks.are_current(rendition.marks))
        if self.disk is not None:
            self._to_sweep |= tokens

    def _doubt(self) -> None:
        """A purge may have been missed while the subscription was away."""
        self.marks.doubt()
        self.memory.sweep(lambda _: False)

    async def _tend(self) -> None:
        pause = TEND_SECONDS
        while True:
            await asyncio.sleep(pause)
            begun = time.monotonic()
            await self.marks.post()
            await self.marks.save()
            tokens, self._to_sweep = self._to_sweep, {}
            if tokens and self.disk is not None:
                await self.disk.sweep(self._keeper(tokens))
            pause = max(TEND_SECONDS, SWEEP_PAUSE * (time.monotonic() - begun))


def assemble(
    memory: MemorySettings,
    *,
    disk: DiskSettings | None = None,
    redis: RedisSettings | None = None,
    settings: TieredSettings = TieredSettings(),
    observe: Callable[[str, float], None] = lambda *_: None,
) -> Tiered:
    """The tiers of a configuration, not started. `observe(op, seconds)` is told of every answered Redis command.

    ValueError: `redis.url` or its namespace cannot be used.
    """
    link = Link(redis, observe=observe) if redis is not None and redis.url else None
    board = Board(link) if link is not None else None
    path: Path | None = disk.path / MARKS_FILE if disk is not None else None
    marks = PurgeMarks(shared=board, path=path)
    return Tiered(
        MemoryCache(memory),
        marks=marks,
        disk=DiskCache(disk) if disk is not None else None,
        redis=RedisCache(link, marks.learn) if link is not None else None,
        link=link,
        board=board,
        settings=settings,
    )
