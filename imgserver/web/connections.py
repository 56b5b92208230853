"""The listening side: bounds on connections that the framework leaves open.

aiohttp gives a client `keepalive_timeout` to finish its header, as long as it may idle between requests; here the
header has a timer of its own, and so has a body that nobody reads. It waits for ever for a client that does not take
its answer; here who takes less than 64 KiB in `write_timeout_seconds` is cut off. The number of connections is bounded
as well: beyond it a newcomer is closed at once, which a load balancer understands.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from imgserver.errors import MalformedRequest
from imgserver.settings.schema import ServerSettings
from imgserver.web import problem
from imgserver.web.fast_path import HEADER_END, Shortcut
from imgserver.web.middleware import SECURITY, FastPath, Handler
from imgserver.web.request_target import in_origin_form

# What the framework calls with a request, whichever factory made it.
AnyHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
# Makes one of a message; what follows the message is the framework's business.
RequestFactory = Callable[..., web.BaseRequest]

# What a client must at least read of its response in `write_timeout_seconds`: this much of a large one, else all of it.
WRITTEN_BYTES = 64 << 10

_NO_LINGER = struct.pack("ii", 1, 0)

_OVERDUE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Guard:
    """The bounds; counts open connections, requests that the parser refused, and clients that were too slow."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.open = 0
        self.malformed = 0
        self.overdue = {"header": 0, "write": 0}


class GuardedHandler(RequestHandler):
    """One connection. What `at_once` answers never reaches the framework."""

    __slots__ = ("_at_once", "_guard", "_header_timer", "_peer", "_wire", "_write_timer")

    def __init__(self, server: web.Server, guard: Guard, loop: asyncio.AbstractEventLoop, at_once: FastPath) -> None:
        settings = guard.settings
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=settings.keepalive_timeout_seconds,
            lingering_time=settings.header_timeout_seconds,
            access_log=None,  # type: ignore[arg-type]
            # A small compressed body may be large; nobody here takes one, and whoever refuses it must not unpack it.
            auto_decompress=False,
        )
        self._guard = guard
        self._at_once = at_once
        self._peer = ""
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._wire: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._guard.open += 1
        self._wire = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        self._peer = _address_of(transport)
        self._parser = cast(Any, Shortcut(self._parser, self._answer_at_once))
        if self._guard.open > self._guard.settings.max_connections:
            self.force_close()

    def data_received(self, data: bytes) -> None:
        waiting, taken = len(self._messages), self._request_count
        super().data_received(data)
        if self._request_count > taken and not self._messages:
            self._stop_timer()
            return
        if len(self._messages) > waiting and getattr(self._messages[-1][0], "upgrade", False):
            self._judge_upgrade(data, requests=len(self._messages) - waiting)
        if self._waits_for_header():
            if self._header_timer is None:
                self._header_timer = self._loop.call_later(
                    self._guard.settings.header_timeout_seconds, self._close_overdue
                )
        elif self._header_timer is not None:
            self._stop_timer()

    def _answer_at_once(self, message: RawRequestMessage) -> bool:
        """Not while an answer is under way or its client is behind: both are the framework's to wait for."""
        waiter, wire = self._waiter, self._wire
        if waiter is None or waiter.done() or self._messages or self._paused or wire is None:
            return False
        answer = self._at_once(message, self._peer)
        if answer is None:
            return False
        wire.write(answer)
        self._count_request()
        return True

    def _count_request(self) -> None:
        """What the framework notes of each request; the connection may rest as long as after any other."""
        self._request_count += 1
        if self._manager is not None:
            self._manager.requests_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def _judge_upgrade(self, data: bytes, *, requests: int) -> None:
        """Nothing is upgraded to here, and the parser drops what comes in one packet behind such a request: the answer
        to that must not be the next one's. Whoever may have lost a request is told by the connection's end."""
        is_last = data.endswith(HEADER_END) and data.count(HEADER_END) == requests and data[:1] not in b"\r\n"
        if not is_last:
            message, payload = self._messages[-1]
            self._messages[-1] = cast(Any, message)._replace(should_close=True), payload

    def connection_lost(self, exc: BaseException | None) -> None:
        self._guard.open -= 1
        self._wire = None
        self._stop_timer()
        self._stop_watch()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client is behind: more than the transport's high-water mark is not taken yet."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_watch()

    async def start(self) -> None:
        """A transport that is closed still waits for the client to take what is left."""
        try:
            await super().start()
        finally:
            if self._wire is not None and self._write_timer is None:
                self._watch_writing()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser refuses never reaches a handler. The framework would answer with part of the input and log a
        traceback each time: an attacker would write our log."""
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        self._guard.malformed += 1
        response = problem.answer(_refusal(exc), "")
        response.headers.update(SECURITY)
        response.force_close()
        return response

    def _waits_for_header(self) -> bool:
        """Not while a body is still coming in, whether somebody reads it or the framework lets it run out. The very
        first bytes may come before the framework waits for them."""
        return not self._messages and (self._waiter is not None or self._request_count == 0)

    def _watch_writing(self) -> None:
        if self._wire is not None:
            left = self._wire.get_write_buffer_size()
            self._write_timer = self._loop.call_later(
                self._guard.settings.write_timeout_seconds, self._judge_writing, left
            )

    def _judge_writing(self, before: int) -> None:
        self._write_timer = None
        if self._wire is None:
            return
        if before - self._wire.get_write_buffer_size() >= WRITTEN_BYTES:
            self._watch_writing()
            return
        self._guard.overdue["write"] += 1
        _reset(self._wire)

    def _stop_watch(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _close_overdue(self) -> None:
        self._header_timer = None
        if self._waits_for_header() and self.transport is not None:
            self._guard.overdue["header"] += 1
            self.transport.write(_OVERDUE)
            self.force_close()

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def _address_of(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, list | tuple) else ""


def _reset(transport: asyncio.Transport) -> None:
    """Without the reset the kernel would go on sending to them what it holds, on its own memory."""
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def _refusal(fault: BaseException | None) -> MalformedRequest:
    """Never to be cached: a field that only one client sends (an overgrown Cookie) must not become the CDN's answer to
    everybody who asks for that URL."""
    if isinstance(fault, LineTooLong):
        return MalformedRequest(f"The request line or a header field is longer than {fault.args[1]} bytes")
    return MalformedRequest()


class GuardedSite(web.SockSite):
    """A site whose connections are guarded, with a lane for pictures past the application's router: they are told by
    the first bytes of their target, and looking a route up costs as much as all else that a hit needs."""

    def __init__(
        self,
        runner: web.AppRunner,
        listener: socket.socket,
        guard: Guard,
        *,
        mounts: tuple[str, ...],
        pictures: Handler,
        at_once: FastPath,
    ) -> None:
        super().__init__(runner, listener, backlog=guard.settings.backlog)
        self._guard = guard
        self._mounts = mounts
        self._pictures = pictures
        self._at_once = at_once

    async def start(self) -> None:
        await web.BaseSite.start(self)
        loop, server = asyncio.get_running_loop(), self._runner.server
        assert server is not None
        server.request_handler = self._with_lane(server.request_handler)
        server.request_factory = _in_origin_form(server.request_factory)
        self._server = await loop.create_server(
            lambda: GuardedHandler(server, self._guard, loop, self._at_once), sock=self._sock, backlog=self._backlog
        )

    def _with_lane(self, routed: AnyHandler) -> AnyHandler:
        mounts, pictures = self._mounts, cast(AnyHandler, self._pictures)

        def lane(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
            return pictures(request) if request.raw_path.startswith(mounts) else routed(request)

        return lane


def _in_origin_form(make: RequestFactory) -> RequestFactory:
    # Neither a call nor a tuple more than a hit needs.
    def made(message: RawRequestMessage, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        if message.path[0] != "/":
            message = in_origin_form(message)
        return make(message, payload, protocol, writer, task)

    return made
