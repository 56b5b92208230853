"""The render lock: of several servers on one Redis, one renders a cold key and the others wait for its record.

It saves work and promises nothing: a lost lock, or a Redis that is away, costs a second render, never an error.
"""

import asyncio
import random
import secrets
import time
from dataclasses import dataclass

from imgserver.cache.redis.client import RedisClient

WAITERS_LIMIT = 256
FIRST_LOOK_SECONDS = 0.01
LAST_LOOK_SECONDS = 0.1

# Compare and delete: our lock may have expired and be another's by now.
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('unlink', KEYS[1]) end return 0"


@dataclass(frozen=True, slots=True)
class LockAttempt:
    """`ours`: render, store, then release. Else another server renders: wait, then look into the cache."""

    ours: bool
    token: str


@dataclass(frozen=True, slots=True)
class LockStatistics:
    """`lost` counts takes without an answer, `waiting` those who wait now, `waited` all who ever did."""

    taken: int
    lost: int
    waiting: int
    waited: int


class RenderLock:
    """Locks at `<namespace>:lock:<key>`. Nothing here raises, or waits longer than it is told to."""

    def __init__(self, link: RedisClient) -> None:
        self._client = link
        self._taken = self._lost = self._waiting = self._waited = 0

    async def take(self, key: str, *, seconds: float) -> LockAttempt:
        """`seconds`: the render's deadline, after which the lock ends by itself. Without an answer the turn is ours."""
        token = secrets.token_hex(8)
        name, milliseconds = self._name(key), max(1, int(1000 * seconds))
        replies = await self._client.write("lock", lambda pipe: pipe.set(name, token, nx=True, px=milliseconds))
        if replies is None or isinstance(replies[0], Exception):
            self._lost += 1
            # It may have been set all the same, so the token is kept for the release.
            return LockAttempt(True, token)
        self._taken += replies[0] is True
        return LockAttempt(replies[0] is True, token)

    async def release(self, key: str, turn: LockAttempt) -> None:
        """After the record was written: who waits looks for it at once. For a turn that is not ours: nothing."""
        if turn.ours:
            await self._client.write("unlock", lambda pipe: pipe.eval(_RELEASE, 1, self._name(key), turn.token))

    async def wait(self, key: str, *, seconds: float) -> bool:
        """Until nobody holds the key's lock. False: the time is over, too many wait, or Redis is away; so render."""
        if self._waiting >= WAITERS_LIMIT:
            return False
        self._waiting += 1
        self._waited += 1
        try:
            return await self._gone(key, time.monotonic() + seconds)
        finally:
            self._waiting -= 1

    def statistics(self) -> LockStatistics:
        return LockStatistics(self._taken, self._lost, self._waiting, self._waited)

    async def _gone(self, key: str, deadline: float) -> bool:
        pause = FIRST_LOOK_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(left, pause * random.uniform(0.8, 1.2)))  # noqa: S311
            replies = await self._client.read("locked", ("EXISTS", self._name(key)))
            if replies is None or isinstance(replies[0], Exception):
                return False
            if replies[0] == 0:
                return True
            pause = min(LAST_LOOK_SECONDS, 1.5 * pause)
        return False

    def _name(self, key: str) -> str:
        return self._client.name("lock", key)
