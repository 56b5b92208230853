"""Generations that servers share through Redis, and the subscription to their purges."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from imgserver.cache.cache_tags import is_generation
from imgserver.cache.redis.client import RedisClient
from imgserver.cache.redis.probe import BACKGROUND_SECONDS
from imgserver.cache.redis.purge_messages import PurgeMessages, serialize

# After so long without a message the subscription is pinged. Until the reply it is not trusted to report every purge
# (`is_alive`). Without a reply for PONG_SECONDS it has ended. So a server hears of a purge immediately, or knows within
# 4 s that it may have missed one, and then clears its memory.
SILENCE_SECONDS = 0.5
PONG_SECONDS = 3.5
RETRY_SECONDS = 1.0
# No record of any tier lives so long (90 days and jitter), so its generation is of no use afterwards.
GENERATION_SECONDS = 100 * 86_400
# A message takes 0.1 ms of the event loop. A flood of them gets a tenth of its time: so many are read, then none for so
# long. Redis ends the connection of a subscriber that falls behind by 32 MB, which is a gap.
BATCH_MESSAGES = 20
BATCH_SECONDS = 0.02
MAX_TOKEN_BYTES = 65

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
        for message in serialize(tokens):
            pipe.publish(self._client.name("purges"), message)
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
        messages = PurgeMessages(on_purge, on_gap)
        try:
            await pubsub.subscribe(self._client.name("purges"))
            while True:
                batch = await _next_messages(pubsub)
                self._heard_at = time.monotonic()
                for message in batch:
                    if message["type"] == "subscribe":
                        self.subscribed = True
                        on_gap()
                    elif message["type"] == "message":
                        messages.add(message["data"])
                messages.flush()
                await asyncio.sleep(BATCH_SECONDS)
        finally:
            self.subscribed = False
            await pubsub.aclose()  # type: ignore[no-untyped-call]


async def _next_messages(pubsub: PubSub) -> list[dict[str, Any]]:
    """The next message of any type, and those that have arrived with it. Raises ConnectionError if Redis does not even
    answer a ping."""
    messages = [await _next_message(pubsub)]
    while len(messages) < BATCH_MESSAGES and (message := await pubsub.get_message(timeout=0)) is not None:
        messages.append(dict(message))
    return messages


async def _next_message(pubsub: PubSub) -> dict[str, Any]:
    message = await pubsub.get_message(timeout=SILENCE_SECONDS)
    if message is None:
        await pubsub.ping()
        message = await pubsub.get_message(timeout=PONG_SECONDS)
    if message is None:
        raise ConnectionError("The subscription does not answer")
    return dict(message)


def token_of(value: object) -> str:
    """A generation as Redis returns it. Bytes that no server wrote become a token as well, unlike every other one."""
    if not isinstance(value, bytes):
        return ""
    token = value[:MAX_TOKEN_BYTES].decode("ascii", "replace")
    return token if is_generation("a", token) else sha256(value).hexdigest()[:16]
