"""Connections and their timers, which aiohttp does not set.

aiohttp gives a client `keepalive_timeout` to finish a header, as long as a connection may stay idle between requests;
here a header, and a body that no handler reads, have `header_timeout_seconds`. The first header has it from the moment
in which the connection is accepted, later ones from their first byte. aiohttp waits without limit for a client that
does not read its response; here a client that receives less than 64 KiB in `write_timeout_seconds` is disconnected.
The number of connections is limited by `web/open_connections.py`.

Everything here uses the public interface of aiohttp. What uses its private attributes is `web/fast_path.py`.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from imgserver.security.networks import client_of
from imgserver.web.malformed import MAX_FIELD_BYTES, MAX_HEADER_BYTES, MAX_TARGET_BYTES, error_of
from imgserver.web.open_connections import OpenConnections
from imgserver.web.request_target import replace_fields
from imgserver.web.write_progress import MIN_RECEIVED_BYTES, unreceived_bytes

HEADER_END = b"\r\n\r\n"
_NO_LINGER = struct.pack("ii", 1, 0)

_REQUEST_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_HEADER_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

# Makes the response to a request that reaches no handler.
Refuse = Callable[[web.Request, Exception], web.Response]


class Connection(RequestHandler):
    """One connection with its timers.

    A request is in progress from `begin_request`, which the request factory calls, to the end of `finish_response`.
    Bytes that arrive at other times belong to a header, unless the body of the last request is still incomplete.
    """

    __slots__ = (
        "_body",
        "_has_more",
        "_header_bytes",
        "_header_timer",
        "_idle",
        "_is_draining",
        "_is_silent",
        "_socket_transport",
        "_tail",
        "_write_timer",
        "client",
        "connections",
        "expects_header",
        "idle_since",
        "loop",
        "refuse",
    )

    def __init__(
        self, server: web.Server, connections: OpenConnections, loop: asyncio.AbstractEventLoop, refuse: Refuse
    ) -> None:
        settings = connections.settings
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=settings.keepalive_timeout_seconds,
            lingering_time=settings.header_timeout_seconds,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            # A small compressed body may decompress to a large one. No handler accepts one, and a handler that refuses
            # it must not decompress it.
            auto_decompress=False,
        )
        self.connections = connections
        self.loop = loop
        self.refuse = refuse
        # Whether the bytes that are being received belong to a header. The fast path resets it when it has answered.
        self.expects_header = True
        # Whether aiohttp waits for a request on this connection.
        self._idle = True
        # The body of the last request, until it is complete.
        self._body: StreamReader | None = None
        # Whether no byte of a header has been received since the connection was accepted.
        self._is_silent = True
        # Bytes of the header that is incomplete.
        self._header_bytes = 0
        self._tail = Tail()
        # Whether more than one header has been received since the connection was idle.
        self._has_more = False
        self._is_draining = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self.client, self.idle_since = "", 0.0
        # aiohttp drops its `transport` when it closes a connection; the client may then still have to read.
        self._socket_transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket_transport = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.client = client_of(str(peer[0])) if isinstance(peer, list | tuple) else ""
        self.idle_since = self.loop.time()
        if self.connections.add(self):
            self._start_header_timer()
        else:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.connections.remove(self)
        self._socket_transport = None
        self.stop_header_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_idle = self.expects_header = self._idle and (self._body is None or self._body.is_eof())
        received = 0 if was_idle or self._body is None else self._body.total_bytes
        super().data_received(data)
        # aiohttp passes no bytes when it goes on with those that it has held back.
        if (was_idle and not self.expects_header) or not data:
            return
        self._has_more = not _is_one_header(data) or (self._has_more and not was_idle)
        self._is_silent = False
        self._tail.note(data, is_header=was_idle, body_bytes=received)
        # `begin_request` stops the timer if the header is complete.
        if was_idle:
            self._start_header_timer()
            self._limit_header(data)

    def _limit_header(self, data: bytes) -> None:
        self._header_bytes = 0 if HEADER_END in data else self._header_bytes + len(data)
        if self._header_bytes > MAX_HEADER_BYTES and self.transport is not None:
            self.connections.malformed += 1
            self.transport.write(_HEADER_TOO_LARGE)
            self.force_close()

    def begin_request(self, message: RawRequestMessage, body: StreamReader) -> RawRequestMessage:
        """Called for each parsed message. Returns the message that a request is made of.

        No handler upgrades a connection, and the parser drops what follows an upgrade request in its packet. A client
        that may have lost a request learns this from the end of the connection: it must not take the response to its
        next request for the missing one.
        """
        self._idle, self._body = False, body
        self.connections.note_busy(self)
        self.stop_header_timer()
        if message.upgrade and self._has_more:
            return replace_fields(message, should_close=True)
        return message

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        # Handlers answer every error. This one is the framework's: its router has no route for the request.
        if isinstance(resp, web.HTTPException):
            resp = self.refuse(cast(web.Request, request), resp)
        # A client that still sends a body which nobody reads must begin its next request on another connection.
        if self._is_draining or not request.content.is_eof():
            resp.force_close()
        result = await super().finish_response(request, resp, start_time)
        self._idle, self._body = True, None if request.content.is_eof() else request.content
        self.idle_since = self.loop.time()
        self.connections.note_idle(self)
        if self._body is None and not self._tail.ends_request(request.content_length):
            self._start_header_timer()
        if self._is_draining:  # perhaps only since the head of the response has been sent
            self.close()
        return result

    @property
    def is_working(self) -> bool:
        """Whether a request is in progress, or a response is not yet written."""
        return self._socket_transport is not None and (
            not self._idle or self._socket_transport.get_write_buffer_size() > 0
        )

    def drain(self) -> None:
        """Closes the connection after the response to the request in progress, and immediately if no request has begun
        to arrive. A request whose header is incomplete gets a response: the boundary refuses it."""
        self._is_draining = True
        if self._idle and self._header_timer is None:
            self.force_close()

    def evict(self) -> None:
        """Closes the connection, which is idle."""
        if self._socket_transport is not None and self._socket_transport.get_write_buffer_size():
            _reset(self._socket_transport)
        self.force_close()

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            seconds = self.connections.settings.header_timeout_seconds
            self._header_timer = self.loop.call_later(seconds, self._close_slow_header)

    def stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def pause_writing(self) -> None:
        """The client reads slowly: the transport's buffer is above its high-water mark."""
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    async def start(self) -> None:
        """aiohttp's loop over the requests of the connection. A transport that was closed after the last response still
        waits for the client to read the rest."""
        try:
            await super().start()
        finally:
            self._idle = False
            if self._socket_transport is not None and self._write_timer is None:
                self._start_write_timer()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the framework passes it
    ) -> web.StreamResponse:
        """Answers what reaches no handler, which is what the parser refuses. aiohttp would answer with a part of the
        input and log a traceback each time."""
        if request.writer.output_size > 0:
            raise ConnectionError("The response has begun; the error cannot be sent any more") from exc
        return self.refuse(cast(web.Request, request), error_of(exc, status))

    def _close_slow_header(self) -> None:
        self._header_timer = None
        if self._idle and self.transport is not None:
            self.connections.overdue["header"] += 1
            if not self._is_silent:
                self.transport.write(_REQUEST_TIMEOUT)
            self.force_close()

    def _start_write_timer(self) -> None:
        if self._socket_transport is not None:
            unreceived = unreceived_bytes(self._socket_transport)
            seconds = self.connections.settings.write_timeout_seconds
            self._write_timer = self.loop.call_later(seconds, self._check_progress, unreceived)

    def _check_progress(self, unreceived_before: int) -> None:
        self._write_timer = None
        if self._socket_transport is None:
            return
        if unreceived_before - unreceived_bytes(self._socket_transport) >= MIN_RECEIVED_BYTES:
            self._start_write_timer()
            return
        self.connections.overdue["write"] += 1
        _reset(self._socket_transport)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class Tail:
    """The last packet of a connection: whether it ends where a request ends, or with a part of a further one."""

    __slots__ = ("_behind_header", "_body_bytes", "_ends_header")

    def __init__(self) -> None:
        self._ends_header = True
        self._behind_header = self._body_bytes = 0

    def note(self, data: bytes, *, is_header: bool, body_bytes: int) -> None:
        """`is_header`: the packet begins within a header; otherwise it continues a body, of which `body_bytes` have
        been received before."""
        self._ends_header, self._body_bytes = data.endswith(HEADER_END), body_bytes
        if not self._ends_header:
            end = data.find(HEADER_END) + len(HEADER_END) if is_header else 0
            self._behind_header = len(data) - end

    def ends_request(self, content_length: int | None) -> bool:
        """Whether nothing follows the request whose body is complete. A packet that ends with an empty line ends with a
        header or with a chunked body. False also for the rare request whose end cannot be found, such as one with a
        body behind another one."""
        return self._ends_header or self._body_bytes + self._behind_header == content_length


def _is_one_header(data: bytes) -> bool:
    """Whether a packet ends with a header, and has neither another one nor the end of the line before it."""
    return data.endswith(HEADER_END) and data.count(HEADER_END) == 1 and data[:1] not in b"\r\n"


def _reset(transport: asyncio.Transport) -> None:
    """Without a TCP reset the kernel would keep the unread bytes in its memory and go on sending them."""
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


# Makes the protocol of one connection.
ConnectionFactory = Callable[[web.Server, OpenConnections, asyncio.AbstractEventLoop, Refuse], Connection]
