"""The Redis tier: records that all servers of one namespace share. Every fault of Redis is a miss."""

import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Protocol

from redis.exceptions import RedisError

from imgserver.cache.cache_tags import source_digits
from imgserver.cache.record import HEAD_BYTES, REASONS, Corrupt, decode, encode, peek
from imgserver.cache.redis.client import RedisClient
from imgserver.cache.redis.invalidation import token_of
from imgserver.cache.tier import IsKept, SweepResult, TierStatistics
from imgserver.headers.caching import jittered
from imgserver.plan import canonical
from imgserver.plan.rendition import Rendition

# Why a write was dropped: Redis failed or no record can hold the rendition; the body is too large; it has expired.
DROP_REASONS = ("error", "size", "expired")
# Beside the reasons of a record: the key has another type of value than a string.
CORRUPT_REASONS = (*REASONS, "type")

# A sweep reads the heads of so many records in one round trip.
SWEEP_BATCH = 200

log = logging.getLogger(__name__)


class GenerationReader(Protocol):
    """Receives the generations that were read along with a record: token by group, "" where Redis has none. `since`
    is the value of `changes` when they were requested."""

    @property
    def changes(self) -> int: ...

    def learn(self, tokens: Mapping[str, str], *, since: int) -> None: ...


class RedisTier:
    """A `Tier` on a client that its owner starts and closes."""

    is_shared = True

    def __init__(self, client: RedisClient, generations: GenerationReader | None = None) -> None:
        self._client = client
        self._generations = generations
        self._hits = self._misses = self._errors = self._bypassed = 0
        self._corrupt = Counter(dict.fromkeys(CORRUPT_REASONS, 0))
        self._dropped = Counter(dict.fromkeys(DROP_REASONS, 0))

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def get(self, key: str, groups: Sequence[str] = (), /) -> Rendition | None:
        """Reads the record and the generations of `groups` in one round trip. A value that is no record is removed in
        the background."""
        name = self._client.name(key)
        # Not GET: whatever the value is, at most the length of a record is transferred.
        record = ("GETRANGE", name, 0, self._client.settings.item_bytes + HEAD_BYTES)
        connected = self._client.connected
        since = self._generations.changes if self._generations is not None else 0
        if groups:
            names = (self._client.name("generation", group) for group in groups)
            replies = await self._client.read("get", record, ("MGET", *names))
        else:
            replies = await self._client.read("get", record)
        if replies is None or _is_error(replies[0]):
            self._errors += connected
            self._bypassed += not connected
            return None
        self._learn_generations(groups, replies[1:], since)
        rendition, data = None, replies[0]
        try:
            if type(data) is bytes and data:
                rendition = decode(key, data)
            else:
                await self._check_absent(key, data)
        except Corrupt as corrupt:
            self._corrupt[corrupt.reason] += 1
            await self._client.run_in_background(lambda: self.drop(key))
        self._hits += rendition is not None
        self._misses += rendition is None
        return rendition

    async def put(self, key: str, rendition: Rendition) -> bool:
        milliseconds = self._ttl_milliseconds(rendition)
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

    async def sweep(self, is_kept: IsKept, groups: Sequence[str] = (), /) -> SweepResult:
        """Searches the keys of this namespace that can belong to `groups`."""
        removed = 0
        try:
            for pattern in self._patterns(groups):
                keys = self._client.background.scan_iter(match=pattern, count=SWEEP_BATCH * 5)
                async for names in _batches(keys):
                    removed += await self._sweep_batch(names, is_kept)
        except (RedisError, OSError) as error:
            log.warning("redis.sweep_failed", extra={"error": str(error)})
            return SweepResult(incomplete="failed")
        return SweepResult(removed)

    def statistics(self) -> TierStatistics:
        return TierStatistics(
            hits=self._hits,
            misses=self._misses,
            errors=self._errors,
            bypassed=self._bypassed,
            corrupt=dict(self._corrupt),
            dropped_writes=dict(self._dropped),
            degraded=not self._client.connected,
            degraded_reason=self._client.suspended_reason,
        )

    async def _check_absent(self, key: str, data: Any) -> None:
        """Raises Corrupt if the key has a value: GETRANGE returns the same for an absent key and an empty string."""
        if isinstance(data, Exception):
            raise Corrupt("type")
        replies = await self._client.read("exists", ("EXISTS", self._client.name(key)))
        if replies is not None and replies[0] == 1:
            raise Corrupt("empty")

    def _learn_generations(self, groups: Sequence[str], replies: list[Any], since: int) -> None:
        if self._generations is None or not replies:
            return
        if isinstance(replies[0], list) and len(replies[0]) == len(groups):
            self._generations.learn(dict(zip(groups, map(token_of, replies[0]), strict=True)), since=since)

    def _ttl_milliseconds(self, rendition: Rendition) -> int:
        """Jittered, so that records that were written together do not expire together."""
        seconds = float(self._client.settings.ttl_seconds)
        if rendition.expires is not None:
            seconds = min(seconds, rendition.expires - time.time())
        return int(1000 * seconds * jittered(random.random()))  # noqa: S311

    def _patterns(self, groups: Sequence[str]) -> Iterator[str]:
        """A key tells its original's group only; for any other group every key is searched."""
        digits = {source_digits(group) for group in groups} or {""}
        for one in {""} if "" in digits else digits:
            yield self._client.name(canonical.key_pattern(one))

    async def _sweep_batch(self, names: list[bytes], is_kept: IsKept) -> int:
        pipe = self._client.background.pipeline(transaction=False)
        for name in names:
            pipe.getrange(name, 0, HEAD_BYTES - 1)
        heads = await pipe.execute(raise_on_error=False)
        removed = [name for name, head in zip(names, heads, strict=True) if not _is_head_kept(head, is_kept)]
        return int(await self._client.background.unlink(*removed)) if removed else 0


def _is_error(reply: object) -> bool:
    """WRONGTYPE is none: it says that the key has another type of value, not that Redis fails."""
    return isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE")


def _is_head_kept(head: object, is_kept: IsKept) -> bool:
    if not isinstance(head, bytes):
        return False
    try:
        _, expires, generations = peek(head)
    except Corrupt:
        return False
    return is_kept(expires, generations)


async def _batches(names: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    batch: list[bytes] = []
    async for name in names:
        batch.append(name)
        if len(batch) == SWEEP_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
