"""The listening socket, and how its requests get to their handlers."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10, RawRequestMessage

from imgserver.errors import HeaderTooLarge, MalformedRequest, TargetTooLong
from imgserver.web.connections import Connection, ConnectionFactory, Refuse
from imgserver.web.malformed import MALFORMED, fault_of, without_method
from imgserver.web.middleware import Boundary, Handler
from imgserver.web.open_connections import OpenConnections
from imgserver.web.request_target import in_origin_form, replace_fields

# aiohttp's request handler, and what makes a request of a parsed message.
AnyHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
RequestFactory = Callable[..., web.BaseRequest]


class Site:
    """Accepts the connections of a listening socket.

    Requests for images do not pass the router of the application: the first bytes of their target tell them, and
    finding a route costs as much as the rest of a hit on the framework's way.
    """

    def __init__(
        self,
        server: web.Server,
        listener: socket.socket,
        connections: OpenConnections,
        *,
        mounts: tuple[str, ...],
        images: Handler,
        boundary: Boundary,
        connect: ConnectionFactory = Connection,
    ) -> None:
        """`server` is that of a runner after its setup; `images` handles the targets that begin with a mount."""
        self._server = server
        self._listener = listener
        self._connections = connections
        self._connect = connect
        self._acceptor: asyncio.Server | None = None
        self._boundary = boundary
        server.request_handler = _bypass_router(server.request_handler, mounts, images, self._refuse)
        server.request_factory = _begin_request(server.request_factory)

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()

        def connect() -> Connection:
            return self._connect(self._server, self._connections, loop, self._refuse)

        backlog = self._connections.settings.backlog
        self._acceptor = await loop.create_server(connect, sock=self._listener, backlog=backlog)

    def _refuse(self, request: web.Request, error: Exception) -> web.Response:
        self._connections.malformed += isinstance(error, MalformedRequest | TargetTooLong | HeaderTooLarge)
        return self._boundary.refuse(request, error)

    def stop(self) -> None:
        """Accepts no more connections; the runner closes the open ones in its cleanup."""
        if self._acceptor is not None:
            self._acceptor.close()


def _bypass_router(route: AnyHandler, mounts: tuple[str, ...], images: Handler, refuse: Refuse) -> AnyHandler:
    handle_image = cast(AnyHandler, images)

    async def handle_malformed(request: web.Request) -> web.StreamResponse:
        return refuse(request, request[MALFORMED])

    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        if MALFORMED in request:
            return handle_malformed(cast(web.Request, request))
        return handle_image(request) if request.raw_path.startswith(mounts) else route(request)

    return handle


def _begin_request(make: RequestFactory) -> RequestFactory:
    """Tells the connection that a request begins, brings its target into origin form, and finds out what the parser
    accepts although it is malformed."""

    def begin(
        message: RawRequestMessage, payload: Any, protocol: Connection, writer: Any, task: Any
    ) -> web.BaseRequest:
        message = without_method(protocol.begin_request(message, payload))
        fault = fault_of(message)
        if fault is not None:
            message = replace_fields(message, version=max(message.version, HttpVersion10), should_close=True)
        if message.path[0] != "/" or message.method == hdrs.METH_CONNECT:
            message = in_origin_form(message)
        request = make(message, payload, protocol, writer, task)
        if fault is not None:
            request[MALFORMED] = fault
        return request

    return begin
