"""Generations that servers share through Redis, and the subscription to their purges."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from imgserver.cache.redis.client import RedisClient
from imgserver.cache.redis.probe import BACKGROUND_SECONDS

# After so long without a message the subscription is pinged. Until the reply it is not trusted to report every purge
# (`is_alive`). Without a reply for PONG_SECONDS it has ended. So a server hears of a purge immediately, or knows within
# 4 s that it may have missed one, and then clears its memory.
SILENCE_SECONDS = 0.5
PONG_SECONDS = 3.5
RETRY_SECONDS = 1.0
# No record of any tier lives so long (90 days and jitter), so its generation is of no use afterwards.
GENERATION_SECONDS = 100 * 86_400

log = logging.getLogger(__name__)


class SharedInvalidation:
    """Tokens are at `<namespace>:generation:<group>`. Purges are published on the channel `<namespace>:purges`, as a
    JSON object of tokens by group."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self.subscribed = False
        self._heard_at = float("-inf")

    @property
    def is_alive(self) -> bool:
        """Whether a purge of a moment ago would be known."""
        return self.subscribed and time.monotonic() - self._heard_at < 2 * SILENCE_SECONDS

    async def fetch(self, groups: Sequence[str]) -> dict[str, str] | None:
        """The token of each group, "" for a group without one. None: Redis did not answer."""
        names = (self._client.name("generation", group) for group in groups)
        replies = await self._client.read("generations", ("MGET", *names))
        if replies is None or not isinstance(replies[0], list) or len(replies[0]) != len(groups):
            return None
        return {group: token_of(token) for group, token in zip(groups, replies[0], strict=True)}

    async def publish(self, tokens: Mapping[str, str]) -> bool:
        """Stores the tokens and notifies all servers. False: perhaps not done; try again.

        Ignores the circuit breakers: purges are rare, and somebody waits to hear whether one is complete.
        """
        pipe = self._client.background.pipeline(transaction=False)
        for group, token in tokens.items():
            pipe.set(self._client.name("generation", group), token, ex=GENERATION_SECONDS)
        pipe.publish(self._client.name("purges"), orjson.dumps(dict(tokens)))
        try:
            async with asyncio.timeout(2 * BACKGROUND_SECONDS):
                await pipe.execute()
        except (RedisError, OSError) as error:
            log.warning("redis.publish_purge_failed", extra={"error": str(error)})
            return False
        return True

    async def subscribe(self, *, on_purge: Callable[[dict[str, str]], None], on_gap: Callable[[], None]) -> None:
        """Runs until it is cancelled, and subscribes again after each fault. `on_purge(tokens)` is called for each
        purge, `on_gap` after each subscription and whenever purges may have been missed."""
        while True:
            try:
                await self._listen(on_purge, on_gap)
            except Exception:
                # Any: a broken handshake raises whatever redis-py's parser raises. Not logged: the circuit breakers log
                # that Redis is away.
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, on_purge: Callable[[dict[str, str]], None], on_gap: Callable[[], None]) -> None:
        pubsub = self._client.background.pubsub()
        try:
            await pubsub.subscribe(self._client.name("purges"))
            while True:
                message = await _next_message(pubsub)
                self._heard_at = time.monotonic()
                if message["type"] == "subscribe":
                    self.subscribed = True
                    on_gap()
                elif message["type"] == "message":
                    _notify(message["data"], on_purge, on_gap)
        finally:
            self.subscribed = False
            await pubsub.aclose()  # type: ignore[no-untyped-call]


async def _next_message(pubsub: PubSub) -> dict[str, Any]:
    """The next message of any type. Raises ConnectionError if Redis does not even answer a ping."""
    message = await pubsub.get_message(timeout=SILENCE_SECONDS)
    if message is None:
        await pubsub.ping()
        message = await pubsub.get_message(timeout=PONG_SECONDS)
    if message is None:
        raise ConnectionError("The subscription does not answer")
    return dict(message)


def _notify(data: object, on_purge: Callable[[dict[str, str]], None], on_gap: Callable[[], None]) -> None:
    """An unreadable message is a gap: something was purged, but nobody knows what."""
    try:
        tokens = orjson.loads(data)  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        tokens = None
    if isinstance(tokens, dict) and all(isinstance(token, str) for token in tokens.values()):
        on_purge(tokens)
    else:
        on_gap()


def token_of(value: object) -> str:
    """A generation as Redis returns it. Bytes that no server wrote become a token as well, unlike every other one."""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else ""
