"""The listening side: bounds on connections that the framework leaves open.

aiohttp gives a client `keepalive_timeout` to finish its header, as long as it may idle between requests; here the
header has a timer of its own. The number of connections is bounded as well: beyond it a newcomer is closed at
once, which a load balancer understands.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from imgserver.errors import MalformedRequest
from imgserver.settings import ServerSettings
from imgserver.web import problem
from imgserver.web.middleware import SECURITY, Handler

# What the framework calls with a request, whichever factory made it.
AnyHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_OVERDUE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Guard:
    """The bounds; counts open connections, and requests that the parser refused."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.open = 0
        self.malformed = 0


class GuardedHandler(RequestHandler):
    """One connection."""

    __slots__ = ("_guard", "_header_timer")

    def __init__(self, server: web.Server, guard: Guard, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=guard.settings.keepalive_seconds,
            access_log=None,  # type: ignore[arg-type]
            # A small compressed body may be large; nobody here takes one, and whoever refuses it must not unpack it.
            auto_decompress=False,
        )
        self._guard = guard
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._guard.open += 1
        super().connection_made(transport)
        if self._guard.open > self._guard.settings.connections:
            self.force_close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits_for_header():
            if self._header_timer is None:
                self._header_timer = self._loop.call_later(self._guard.settings.header_seconds, self._close_overdue)
        elif self._header_timer is not None:
            self._stop_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._guard.open -= 1
        self._stop_timer()
        super().connection_lost(exc)

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
        return not self._messages and not self._request_in_progress

    def _close_overdue(self) -> None:
        self._header_timer = None
        if self._waits_for_header() and self.transport is not None:
            self.transport.write(_OVERDUE)
            self.force_close()

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


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
        self, runner: web.AppRunner, listener: socket.socket, guard: Guard, *, mount: str, pictures: Handler
    ) -> None:
        super().__init__(runner, listener, backlog=guard.settings.backlog)
        self._guard = guard
        self._mount = mount
        self._pictures = pictures

    async def start(self) -> None:
        await web.BaseSite.start(self)
        loop, server = asyncio.get_running_loop(), self._runner.server
        assert server is not None
        server.request_handler = self._with_lane(server.request_handler)
        self._server = await loop.create_server(
            lambda: GuardedHandler(server, self._guard, loop), sock=self._sock, backlog=self._backlog
        )

    def _with_lane(self, routed: AnyHandler) -> AnyHandler:
        mount, pictures = self._mount, cast(AnyHandler, self._pictures)

        def lane(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
            return pictures(request) if request.raw_path.startswith(mount) else routed(request)

        return lane
