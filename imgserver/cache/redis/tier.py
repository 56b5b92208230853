"""The Redis tier: the same records, shared by all replicas of one namespace. Every fault is a miss."""

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from imgserver.cache.cache_tags import source_digits
from imgserver.cache.record import HEAD_BYTES, REASONS, Corrupt, decode, encode, peek
from imgserver.cache.redis.client import RedisClient
from imgserver.cache.redis.invalidation import token_of
from imgserver.headers.caching import jittered
from imgserver.plan import canonical
from imgserver.plan.rendition import GroupGenerations, Rendition

# Why a record may not be written.
DROPS = ("error", "size", "expired")
# What may lie at a key instead of the record: anything that is none, or no text at all.
CORRUPTIONS = (*REASONS, "type")

# One step of a sweep: so many keys are looked for, and their heads read, at once.
SWEEP_KEYS = 200


@dataclass(frozen=True, slots=True)
class RedisStatistics:
    """Totals since the start; `corrupt` by the record's reason, `dropped_writes` by why nothing was written.

    A look-up is one of hit, miss (a corrupt record, too), `stale` (purged or over), error (no answer in time, or a
    refusal) and `bypassed` (the breaker was open, so Redis was not asked).
    """

    hits: int
    misses: int
    stale: int
    errors: int
    bypassed: int
    corrupt: Mapping[str, int]
    dropped_writes: Mapping[str, int]


class Learner(Protocol):
    """Who is told the purge generations that came with a look-up: token by group, "" where there is none; and the
    moment at
    which they were asked for."""

    @property
    def moment(self) -> int: ...

    def learn(self, tokens: Mapping[str, str], *, since: int) -> None: ...


class RedisTier:
    """A `Tier` over a started `RedisClient`, which its owner closes."""

    def __init__(self, link: RedisClient, learner: Learner | None = None) -> None:
        self._client = link
        self._learner = learner
        self._hits = self._misses = self._stale = self._errors = self._bypassed = 0
        self._corrupt: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    async def get(self, key: str, groups: Sequence[str] = ()) -> Rendition | None:
        """The generations of `groups`, when given, are read in the same round trip, after the record.

        What lies at the key and is no record is taken away, behind the caller's back.
        """
        name = self._client.name(key)
        # Not GET: whatever somebody put there, no more than a record's length comes over.
        record = ("GETRANGE", name, 0, self._client.settings.item_bytes + HEAD_BYTES)
        asked = self._client.connected
        since = self._learner.moment if self._learner is not None else 0
        if groups:
            replies = await self._client.read(
                "get", record, ("MGET", *(self._client.name("generation", one) for one in groups))
            )
        else:
            replies = await self._client.read("get", record)
        if replies is None or _is_refusal(replies[0]):
            self._errors += asked
            self._bypassed += not asked
            return None
        self._learn_generations(groups, replies[1:], since)
        rendition, data = None, replies[0]
        try:
            if type(data) is bytes and data:
                rendition = decode(key, data)
            else:
                await self._odd(key, data)
        except Corrupt as corrupt:
            self._corrupt[corrupt.reason] += 1
            await self._client.later(lambda: self.drop(key))
        self._hits += rendition is not None
        self._misses += rendition is None
        return rendition

    def note_stale(self) -> None:
        """What was got last cannot be used, says its owner."""
        self._hits -= 1
        self._stale += 1

    async def put(self, key: str, rendition: Rendition) -> bool:
        milliseconds = self._milliseconds(rendition)
        if len(rendition.body) > self._client.settings.item_bytes or milliseconds <= 0:
            self._dropped["size" if milliseconds > 0 else "expired"] += 1
            return False
        try:
            data = encode(key, rendition)
        except ValueError:
            self._dropped["error"] += 1
            return False
        replies = await self._client.write("set", lambda pipe: pipe.set(self._client.name(key), data, px=milliseconds))
        if replies is None or replies[0] is not True:
            self._dropped["error"] += 1
            return False
        return True

    async def drop(self, key: str) -> None:
        await self._client.write("unlink", lambda pipe: pipe.unlink(self._client.name(key)))

    async def sweep(self, keeps: Callable[[float | None, GroupGenerations], bool], groups: Sequence[str] = ()) -> int:
        """Unlinks the records of this namespace whose (expires, generations) are not kept; how many.

        `groups` narrows the search to what could have them. RedisError, OSError: it did not come to its end.
        """
        gone = 0
        for pattern in self._patterns(groups):
            async for names in _batches(self._client.patient.scan_iter(match=pattern, count=SWEEP_KEYS * 5)):
                gone += await self._sweep_some(names, keeps)
        return gone

    def statistics(self) -> RedisStatistics:
        return RedisStatistics(
            hits=self._hits,
            misses=self._misses,
            stale=self._stale,
            errors=self._errors,
            bypassed=self._bypassed,
            corrupt=dict(self._corrupt),
            dropped_writes=dict(self._dropped),
        )

    async def _odd(self, key: str, data: Any) -> None:
        """Of a reply that can be no record: whether there is nothing, or Corrupt. Nothing and an empty text look the
        same in a range."""
        if isinstance(data, Exception):
            raise Corrupt("type")
        replies = await self._client.read("exists", ("EXISTS", self._client.name(key)))
        if replies is not None and replies[0] == 1:
            raise Corrupt("empty")

    def _learn_generations(self, groups: Sequence[str], replies: list[Any], since: int) -> None:
        if self._learner is None or not replies or not isinstance(replies[0], list) or len(replies[0]) != len(groups):
            return
        tokens = {group: token_of(token) for group, token in zip(groups, replies[0], strict=True)}
        self._learner.learn(tokens, since=since)

    def _milliseconds(self, rendition: Rendition) -> int:
        left = float(self._client.settings.ttl_seconds)
        if rendition.expires is not None:
            left = min(left, rendition.expires - time.time())
        return int(1000 * left * jittered(random.random()))  # noqa: S311

    def _patterns(self, groups: Sequence[str]) -> Iterator[str]:
        """Only an original's group can be told from a key."""
        digits = {source_digits(group) for group in groups} or {""}
        for one in {""} if "" in digits else digits:
            yield self._client.name(canonical.key_pattern(one))

    async def _sweep_some(self, names: list[bytes], keeps: Callable[[float | None, GroupGenerations], bool]) -> int:
        pipe = self._client.patient.pipeline(transaction=False)
        for name in names:
            pipe.getrange(name, 0, HEAD_BYTES - 1)
        heads = await pipe.execute(raise_on_error=False)
        gone = [name for name, head in zip(names, heads, strict=True) if not _is_kept(head, keeps)]
        return int(await self._client.patient.unlink(*gone)) if gone else 0


def _is_refusal(reply: object) -> bool:
    """An error that says nothing about the key: another type of value there is the key's own fault."""
    return isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE")


def _is_kept(head: object, keeps: Callable[[float | None, GroupGenerations], bool]) -> bool:
    if not isinstance(head, bytes):
        return False
    try:
        _, expires, generations = peek(head)
    except Corrupt:
        return False
    return keeps(expires, generations)


async def _batches(names: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    batch: list[bytes] = []
    async for name in names:
        batch.append(name)
        if len(batch) == SWEEP_KEYS:
            yield batch
            batch = []
    if batch:
        yield batch
