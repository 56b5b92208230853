"""The fast path: memory hits are answered where their requests are read, past aiohttp's request, task and response.

The life of a hit on the fast path:

1. `Connection.data_received` gets the bytes, and aiohttp's parser makes a message of them (`_Parser.feed_data`).
2. The message is a plain one: a GET of HTTP/1.1 without body, range and precondition, alone in its packet, on an idle
   connection.
3. `FastPath.answer` admits the client, finds the prepared response of the target and the fresh rendition in memory.
4. `compose_head` makes the head; head and body are written in one system call; the access log records the request.

At every other answer of these steps the message goes on to aiohttp: the request then takes the framework's way, through
the middleware to its handler. A request is never half answered here, and never overtakes an earlier one.

This module alone touches private attributes of aiohttp. PRIVATE_ATTRIBUTES lists them; if a version of aiohttp lacks
one, all requests take the framework's way.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler
from structlog.typing import FilteringBoundLogger

from imgserver.observability.metrics import IMAGE_ROUTE
from imgserver.web.connections import HEADER_END, Connection, ConnectionFactory, Refuse
from imgserver.web.images.handler import ImageHandler
from imgserver.web.images.request_cache import is_plain
from imgserver.web.images.responses import CHUNK_BYTES, compose_head
from imgserver.web.malformed import is_host
from imgserver.web.middleware import AccessRules, Boundary, FastAdmission
from imgserver.web.open_connections import OpenConnections

# What the fast path uses of aiohttp without a promise that the next version has it: per class, the attribute and its
# use here.
PRIVATE_ATTRIBUTES: Final[dict[type, dict[str, str]]] = {
    RequestHandler: {
        "_parser": "the parser of the connection, which `_Parser` wraps",
        "_waiter": "the future that is pending while the connection waits for a request",
        "_next_keepalive_close_time": "when the idle connection is closed, in seconds of the event loop's clock",
    },
    HttpRequestParser: {
        "feed_data": "parses bytes to messages",
        "message_consumed": "tells the parser that a message has left its queue",
    },
}

# Parsed messages with their payloads, whether the connection is upgraded, and the bytes after an upgrade.
ParseResult = tuple[Sequence[tuple[Any, Any]], bool, bytes]


def missing_attributes() -> list[str]:
    """The attributes of PRIVATE_ATTRIBUTES that this aiohttp does not have, as `Class.attribute`."""
    return [
        f"{owner.__name__}.{name}"
        for owner, names in PRIVATE_ATTRIBUTES.items()
        for name in names
        if not hasattr(owner, name)
    ]


class FastPath:
    """Answers plain GETs whose target has been answered before, from memory."""

    def __init__(self, images: ImageHandler, boundary: Boundary) -> None:
        self._images = images
        self._request_cache = images.request_cache
        self._service = images.service
        self._headers = images.headers
        self._access_log = boundary.access_log
        self._request_ids = boundary.request_ids
        self._cross_origin_reads = boundary.cross_origin_reads
        self._admit: FastAdmission | None = None
        boundary.follow_rules(self._adopt)

    def _adopt(self, rules: AccessRules) -> None:
        self._admit = rules.fast_admission(IMAGE_ROUTE)

    def answer(self, message: RawRequestMessage, peer: str) -> bytes | None:
        """The whole response to a message from the address `peer`; None if it has to take the framework's way."""
        started = time.perf_counter()
        headers = message.headers
        if message.method != hdrs.METH_GET or message.version != HttpVersion11 or not is_plain(headers):
            return None
        try:
            client = peer if self._admit is None else self._admit(peer, headers)
            if client is None or self._images.has_timing:
                return None
            found = self._request_cache.find(message.path, headers)
            if found is None or not is_host(headers.get(hdrs.HOST, "")):
                return None
            parsed, prepared, version, loggable_target = found
            rendition = self._service.get_fresh(prepared.render_request)
            if rendition is None:
                return None
            if len(rendition.body) > CHUNK_BYTES:
                self._service.cache.undo_hit()
                return None
            self._headers.refresh(prepared, parsed, rendition, int(time.time()))
            status, outcome, start, body = prepared.select(headers, rendition, version)
        except Exception:
            # The handler meets the same error, and the boundary answers it.
            return None
        request_id = self._request_ids.of(headers)
        seconds = time.perf_counter() - started
        self._access_log.record(
            hdrs.METH_GET,
            loggable_target,
            client,
            IMAGE_ROUTE,
            status,
            outcome,
            request_id,
            seconds,
            len(body),
            None,
            prepared.event_fields,
        )
        return compose_head(start, request_id, self._cross_origin_reads.lines(headers)) + body


def connection_factory(
    fast_path: Callable[[RawRequestMessage, str], bytes | None], logger: FilteringBoundLogger
) -> ConnectionFactory:
    """Makes connections with the fast path. Without it, and with the event `fast_path.disabled`, if this aiohttp lacks
    an attribute."""
    if missing := missing_attributes():
        logger.warning("fast_path.disabled", missing=missing)
        return Connection

    def connect(
        server: web.Server, connections: OpenConnections, loop: asyncio.AbstractEventLoop, refuse: Refuse
    ) -> Connection:
        # Without keep-alive, a connection has one request, and aiohttp closes it.
        if not connections.settings.keepalive_timeout_seconds:
            return Connection(server, connections, loop, refuse)
        return FastPathConnection(server, connections, loop, refuse, fast_path)

    return connect


class FastPathConnection(Connection):
    __slots__ = ("_fast_path", "_peer")

    def __init__(
        self,
        server: web.Server,
        connections: OpenConnections,
        loop: asyncio.AbstractEventLoop,
        refuse: Refuse,
        fast_path: Callable[[RawRequestMessage, str], bytes | None],
    ) -> None:
        super().__init__(server, connections, loop, refuse)
        self._fast_path = fast_path
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, list | tuple) else ""
        self._parser = cast(Any, _Parser(self._parser, self.answer))

    def is_idle(self) -> bool:
        """Whether aiohttp waits for a request, and the client reads its responses.

        Otherwise a response is on its way, or its client reads slowly, and aiohttp waits for both.
        """
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self.writing_paused

    def drain(self) -> None:
        """On the framework's way, the boundary refuses the next request."""
        self._fast_path = _answer_nothing
        super().drain()

    def answer(self, message: RawRequestMessage) -> bool:
        """Answers the message if the fast path can. The connection may then be idle for the keep-alive time, as after a
        response of aiohttp."""
        transport = self.transport
        if transport is None or not self.is_idle():
            return False
        response = self._fast_path(message, self._peer)
        if response is None:
            return False
        transport.write(response)
        self.idle_since = now = self.loop.time()
        self._next_keepalive_close_time = now + self.connections.settings.keepalive_timeout_seconds
        self.expects_header = False
        if self._header_timer is not None:
            self.stop_header_timer()
        return True


def _answer_nothing(_: RawRequestMessage, __: str) -> None:
    return None


class _Parser:
    """The parser of one connection. It does not hand on the messages that `answer` has answered."""

    def __init__(self, parser: Any, answer: Callable[[RawRequestMessage], bool]) -> None:
        self._parser = parser
        self._answer = answer
        self._feed: Callable[[bytes], ParseResult] = parser.feed_data

    def feed_data(self, data: bytes) -> ParseResult:
        result = self._feed(data)
        messages = result[0]
        if len(messages) != 1 or not data.endswith(HEADER_END):
            return result
        message, payload = messages[0]
        is_plain = payload is EMPTY_PAYLOAD and not message.should_close and not message.upgrade
        if not is_plain or not self._answer(message):
            return result
        self._parser.message_consumed()
        return (), result[1], result[2]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)
