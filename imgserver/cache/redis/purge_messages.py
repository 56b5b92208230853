"""Messages of purges: collected, bounded in number and size, and passed on in batches.

Whoever may write to the Redis may also publish: messages are untrusted. A batch is applied at most every BATCH_SECONDS,
and the tokens of a batch are learned only up to a rate. Whatever is beyond a bound, or cannot be read, counts as a gap:
something may have been purged, and the generations in Redis say what.
"""

import time
from collections.abc import Callable, Mapping

import orjson

from imgserver.cache.cache_tags import is_generation

# A server publishes so many tokens in one message at most; a token with its group takes 40 bytes.
MESSAGE_TOKENS = 500
MAX_MESSAGE_BYTES = 65_536
# The tokens that are learned from messages: more would be a gap. A purge has a few.
TOKENS_PER_SECOND = 500.0
TOKENS_BURST = 2_000


class PurgeMessages:
    """`on_purge(tokens)` gets the tokens of a batch, `on_gap` is called once for all messages of a batch that cannot be
    used."""

    def __init__(
        self,
        on_purge: Callable[[dict[str, str]], None],
        on_gap: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_purge = on_purge
        self._on_gap = on_gap
        self._clock = clock
        self._tokens: dict[str, str] = {}
        self._has_gap = False
        self._allowed = float(TOKENS_BURST)
        self._refilled_at = clock()

    def add(self, data: object) -> None:
        """A message as it was received. After a gap, the rest of the batch is not read: the gap covers it."""
        if self._has_gap:
            return
        tokens = _tokens_of(data)
        if tokens is None or not self._take(len(tokens)):
            self._has_gap = True
        else:
            self._tokens |= tokens

    def flush(self) -> None:
        """Passes on what has been added since the last call."""
        tokens, has_gap = self._tokens, self._has_gap
        self._tokens, self._has_gap = {}, False
        if tokens:
            self._on_purge(tokens)
        if has_gap:
            self._on_gap()

    def _take(self, count: int) -> bool:
        now = self._clock()
        self._allowed = min(TOKENS_BURST, self._allowed + TOKENS_PER_SECOND * (now - self._refilled_at))
        self._refilled_at = now
        if count > self._allowed:
            return False
        self._allowed -= count
        return True


def serialize(tokens: Mapping[str, str]) -> list[bytes]:
    """The messages that announce these tokens."""
    items = list(tokens.items())
    return [orjson.dumps(dict(items[start : start + MESSAGE_TOKENS])) for start in range(0, len(items), MESSAGE_TOKENS)]


def _tokens_of(data: object) -> dict[str, str] | None:
    """The tokens of a message by group; None for anything that no server publishes."""
    if not isinstance(data, bytes | str) or len(data) > MAX_MESSAGE_BYTES:
        return None
    try:
        tokens = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(tokens, dict) or len(tokens) > MESSAGE_TOKENS:
        return None
    return tokens if all(is_generation(group, token) for group, token in tokens.items()) else None
