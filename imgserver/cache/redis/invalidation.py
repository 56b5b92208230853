"""The board: purge generations that replicas share through Redis, and the news of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from imgserver.cache.redis.client import PATIENT_SECONDS, RedisClient

# Nothing of the subscription for so long, and it is asked whether it still lives; until it answers, its word for what
# was not purged is not enough for a record (`hears`). No answer for longer: it does not. Replicas hear of a purge at
# once, or know within 4 s that they may not have heard, and then forget what is in memory.
SILENCE_SECONDS = 0.5
ANSWER_SECONDS = 3.5
RETRY_SECONDS = 1.0
# No record lives this long after it was written, in any tier (90 days and jitter): then its mark is of no use.
MARK_SECONDS = 100 * 86_400

log = logging.getLogger(__name__)


class SharedInvalidation:
    """Generations at `<namespace>:generation:<group>`, news on the channel `<namespace>:purges` as JSON: token
    by group."""

    def __init__(self, link: RedisClient) -> None:
        self._client = link
        self.listening = False
        self._heard_at = float("-inf")

    @property
    def hears(self) -> bool:
        """Whether a purge of a moment ago would be known."""
        return self.listening and time.monotonic() - self._heard_at < 2 * SILENCE_SECONDS

    async def fetch(self, groups: Sequence[str]) -> dict[str, str] | None:
        """The token of each group, "" where none is; None: Redis did not say."""
        replies = await self._client.read(
            "generations", ("MGET", *(self._client.name("generation", group) for group in groups))
        )
        if replies is None or not isinstance(replies[0], list) or len(replies[0]) != len(groups):
            return None
        return {group: token_of(token) for group, token in zip(groups, replies[0], strict=True)}

    async def post(self, tokens: Mapping[str, str]) -> bool:
        """Sets generations and tells everybody. False: perhaps not, so try again. Does not ask the breakers: purges
        are rare
        and somebody waits to hear that one was done."""
        pipe = self._client.patient.pipeline(transaction=False)
        for group, token in tokens.items():
            pipe.set(self._client.name("generation", group), token, ex=MARK_SECONDS)
        pipe.publish(self._client.name("purges"), orjson.dumps(dict(tokens)))
        try:
            async with asyncio.timeout(2 * PATIENT_SECONDS):
                await pipe.execute()
        except (RedisError, OSError) as error:
            log.warning("A purge could not be told to the other replicas yet: %s", error)
            return False
        return True

    async def listen(self, *, on_news: Callable[[dict[str, str]], None], on_gap: Callable[[], None]) -> None:
        """For ever. `on_gap`, at every subscription: something may have been missed before it."""
        while True:
            try:
                await self._listen_once(on_news, on_gap)
            except Exception:
                # Any: a broken handshake meets code of the library that expects a whole one. Not logged: the breakers
                # tell of a Redis that is away.
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen_once(self, on_news: Callable[[dict[str, str]], None], on_gap: Callable[[], None]) -> None:
        pubsub = self._client.patient.pubsub()
        try:
            await pubsub.subscribe(self._client.name("purges"))
            while True:
                message = await _heard(pubsub)
                self._heard_at = time.monotonic()
                if message["type"] == "subscribe":
                    self.listening = True
                    on_gap()
                elif message["type"] == "message":
                    _tell(message["data"], on_news, on_gap)
        finally:
            self.listening = False
            await pubsub.aclose()  # type: ignore[no-untyped-call]


async def _heard(pubsub: PubSub) -> dict[str, Any]:
    """The next message of any type. ConnectionError: the other side is silent even when asked."""
    message = await pubsub.get_message(timeout=SILENCE_SECONDS)
    if message is None:
        await pubsub.ping()
        message = await pubsub.get_message(timeout=ANSWER_SECONDS)
    if message is None:
        raise ConnectionError("The subscription is silent")
    return dict(message)


def _tell(data: object, on_news: Callable[[dict[str, str]], None], on_gap: Callable[[], None]) -> None:
    """News that cannot be read is a gap: something was purged, nobody knows what."""
    try:
        tokens = orjson.loads(data)  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        tokens = None
    if isinstance(tokens, dict) and all(isinstance(token, str) for token in tokens.values()):
        on_news(tokens)
    else:
        on_gap()


def token_of(value: object) -> str:
    """A mark as Redis has it; what somebody else put there is a mark as well, only unlike every other."""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else ""
