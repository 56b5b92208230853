"""The listening side: bounds on connections that the framework leaves open.

aiohttp gives a client `keepalive_timeout` to finish its header, as long as it is meant to idle between requests; here
the header has a timer of its own. The number of connections is bounded as well: beyond it a newcomer is closed at
once, which a load balancer understands.
"""

import asyncio
import socket
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from imgserver.settings import ServerSettings

_OVERDUE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class GuardedHandler(RequestHandler):
    """One connection."""

    __slots__ = ("_guard_limit", "_header_seconds", "_header_timer")

    def __init__(self, server: web.Server, *, limit: int, header_seconds: float, **options: Any) -> None:
        super().__init__(server, **options)
        self._guard_limit = limit
        self._header_seconds = header_seconds
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._manager is not None and len(self._manager._connections) > self._guard_limit:
            self.force_close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits_for_header():
            if self._header_timer is None:
                self._header_timer = self._loop.call_later(self._header_seconds, self._close_overdue)
        elif self._header_timer is not None:
            self._stop_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _waits_for_header(self) -> bool:
        return self._waiter is not None and not self._waiter.done() and not self._messages

    def _close_overdue(self) -> None:
        self._header_timer = None
        if self._waits_for_header() and self.transport is not None:
            cast(asyncio.Transport, self.transport).write(_OVERDUE)
            self.force_close()

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class GuardedSite(web.SockSite):
    """A site whose connections are guarded."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket, settings: ServerSettings) -> None:
        super().__init__(runner, listener, backlog=settings.backlog)
        self._settings = settings

    async def start(self) -> None:
        await web.BaseSite.start(self)
        self._server = await asyncio.get_running_loop().create_server(
            self._connection, sock=self._sock, backlog=self._backlog
        )

    def _connection(self) -> GuardedHandler:
        server = self._runner.server
        assert server is not None
        return GuardedHandler(
            server,
            limit=self._settings.connections,
            header_seconds=self._settings.header_seconds,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._settings.keepalive_seconds,
            access_log=None,
        )
