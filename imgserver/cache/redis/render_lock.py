"""The render lock: of several servers on one Redis, one renders a missing key and the others wait for its record.

It saves work and guarantees nothing: a lost lock or an absent Redis costs a second render, never an error.
"""

import asyncio
import random
import secrets
import time
from dataclasses import dataclass

from imgserver.cache.redis.client import RedisClient

MAX_WAITERS = 256
FIRST_POLL_SECONDS = 0.01
LAST_POLL_SECONDS = 0.1

# Compare and delete: the lock may have expired, and another server may hold it by now.
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('unlink', KEYS[1]) end return 0"


@dataclass(frozen=True, slots=True)
class LockAttempt:
    """`acquired`: render, store, then release. Else another server renders: wait, then look into the cache."""

    acquired: bool
    token: str


@dataclass(frozen=True, slots=True)
class LockStatistics:
    """`lost` counts attempts that Redis did not answer; `waiting` is now, `waited` a total."""

    acquired: int
    lost: int
    waiting: int
    waited: int


class RenderLock:
    """Locks at `<namespace>:lock:<key>`. Never raises, and never waits longer than the given seconds."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._acquired = self._lost = self._waiting = self._waited = 0

    async def acquire(self, key: str, *, seconds: float) -> LockAttempt:
        """Does not wait for the lock. It expires after `seconds`, the deadline of the render. If Redis does not answer,
        the attempt counts as acquired."""
        token = secrets.token_hex(8)
        name, milliseconds = self._client.name("lock", key), max(1, int(1000 * seconds))
        replies = await self._client.write("lock", lambda pipe: pipe.set(name, token, nx=True, px=milliseconds))
        if replies is None or isinstance(replies[0], Exception):
            self._lost += 1
            # Redis may have set the lock all the same: the release needs the token.
            return LockAttempt(True, token)
        self._acquired += replies[0] is True
        return LockAttempt(replies[0] is True, token)

    async def release(self, key: str, attempt: LockAttempt) -> None:
        """Call it after the record was written: a waiting server looks for it immediately. Does nothing if the attempt
        failed."""
        if attempt.acquired:
            name = self._client.name("lock", key)
            await self._client.write("unlock", lambda pipe: pipe.eval(_RELEASE, 1, name, attempt.token))

    async def wait_released(self, key: str, *, seconds: float) -> bool:
        """Waits until no server holds the lock. False: time-out, too many waiters, or Redis is away; then render."""
        if self._waiting >= MAX_WAITERS:
            return False
        self._waiting += 1
        self._waited += 1
        try:
            return await self._poll(key, time.monotonic() + seconds)
        finally:
            self._waiting -= 1

    def statistics(self) -> LockStatistics:
        return LockStatistics(self._acquired, self._lost, self._waiting, self._waited)

    async def _poll(self, key: str, deadline: float) -> bool:
        name, pause = self._client.name("lock", key), FIRST_POLL_SECONDS
        while (remaining := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(remaining, pause * random.uniform(0.8, 1.2)))  # noqa: S311
            replies = await self._client.read("locked", ("EXISTS", name))
            if replies is None or isinstance(replies[0], Exception):
                return False
            if replies[0] == 0:
                return True
            pause = min(LAST_POLL_SECONDS, 1.5 * pause)
        return False
