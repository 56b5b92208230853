"""The shortcut: what memory can answer is answered where it is read, without the framework's request and task for it.

Those take half of what a hit costs. What the shortcut takes is one whole plain request on a connection that rests; its
answer is written before anything else of that connection is looked at, so that no order changes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

HEADER_END = b"\r\n\r\n"

# Messages with their payloads, whether another protocol begins, and what is left of the data for that.
Found = tuple[Sequence[tuple[Any, Any]], bool, bytes]


class Shortcut:
    """The framework's parser of one connection, which keeps from it what `take` has answered."""

    def __init__(self, parser: Any, take: Callable[[RawRequestMessage], bool]) -> None:
        self._parser = parser
        self._take = take
        self._feed: Callable[[bytes], Found] = parser.feed_data

    def feed_data(self, data: bytes) -> Found:
        found = self._feed(data)
        messages = found[0]
        if len(messages) == 1 and data.endswith(HEADER_END):
            message, payload = messages[0]
            if payload is EMPTY_PAYLOAD and not message.should_close and not message.upgrade and self._take(message):
                self._parser.message_consumed()
                return (), found[1], found[2]
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)
