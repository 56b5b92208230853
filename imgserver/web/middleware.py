"""Around every handler: request id, methods, errors into answers, security headers, and the entry in the access log.

It wraps the handlers where they are registered. As a middleware of the application it would cost every hit 2 µs more,
for partial functions and wrappers made anew per request.
"""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage
from multidict import MultiMapping, istr
from structlog.typing import FilteringBoundLogger

from imgserver.errors import ImgserverError, ServerFault
from imgserver.observability.audit import ASKED
from imgserver.observability.metrics import IMAGE_ROUTE
from imgserver.web import problem
from imgserver.web.access_log import AccessLog
from imgserver.web.images.responses import Picture, Ready, Spelled
from imgserver.web.request_target import ASTERISK

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Headers = MultiMapping[str]
# The whole answer to a message from that address, or None: it has to go the long way.
FastPath = Callable[[RawRequestMessage, str], bytes | None]
# Whose request it is, by the peer's address and its fields; None: that cannot be said at once, or it is refused.
Admit = Callable[[str, Headers], str | None]

READING = (hdrs.METH_GET, hdrs.METH_HEAD)
REQUEST_ID = istr("X-Request-Id")
# Set on the request once it is known on which fields of it the answer, error or not, depends.
VARY = web.RequestKey("vary", str)
# Set by a handler that has told the audit of the error it raises.
AUDITED = web.RequestKey("audited", bool)

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Server": "imgserver",
}
# On pictures and on their errors: embedding them anywhere is what they are for.
EMBEDDING = {
    "Access-Control-Allow-Origin": "*",
    "Timing-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}

_HARMLESS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """A client's id when it is harmless, else one of ours: unique by a random start and a count."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(6)
        self._count = itertools.count(1)

    def of(self, headers: Mapping[str, str]) -> str:
        given = headers.get(REQUEST_ID)
        if given is not None and _HARMLESS_ID.fullmatch(given):
            return given
        return f"{self._start}-{next(self._count):x}"


class Gate(Protocol):
    """What stands before the handlers. `has_proxies`: `identify` has to tell whose request it is."""

    has_proxies: bool

    def identify(self, request: web.Request) -> web.Request: ...

    def around(self, handler: Handler, route: str) -> Handler: ...

    def at_once(self, route: str) -> Admit: ...


# Told of every error of ours that becomes an answer, with the request's id.
Watch = Callable[[web.Request, ImgserverError, str], None]


class Boundary:
    def __init__(self, access_log: AccessLog, logger: FilteringBoundLogger, watch: Watch) -> None:
        self._access_log = access_log
        self._logger = logger
        self._watch = watch
        self._ids = RequestIds()
        self._gate: Gate | None = None
        self._doors: list[Callable[[Gate], None]] = []

    def install(self, gate: Gate) -> None:
        """Before every handler, from the next request on."""
        self._gate = gate
        for door in self._doors:
            door(gate)

    def around(self, handler: Handler, route: str, methods: tuple[str, ...] = READING) -> Handler:
        """The handler with everything that holds for all. `route` is its name in metrics and events."""
        access_log, ids = self._access_log, self._ids
        bare, identify = handler, None

        # A gate is put between by rebinding these names: where none is wanted, a hit pays for none.
        def door(gate: Gate) -> None:
            nonlocal handler, identify
            handler = gate.around(bare, route)
            identify = gate.identify if gate.has_proxies else None

        async def bounded(request: web.Request) -> web.StreamResponse:
            begun = time.perf_counter()
            if identify is not None:
                request = identify(request)
            request_id = ids.of(request.headers)
            ASKED.set((request_id, request.remote))
            access_log.in_progress += 1
            try:
                if request.method not in methods:
                    raise web.HTTPMethodNotAllowed(request.method, methods)
                response = await handler(request)
            except asyncio.CancelledError:
                access_log.left(request, route=route, request_id=request_id, seconds=time.perf_counter() - begun)
                raise
            except Exception as error:
                response = self._answer(request, error, request_id)
            finally:
                access_log.in_progress -= 1
            if isinstance(response, Ready):
                response.request_id = request_id
            else:
                response.headers[REQUEST_ID] = request_id
                if not isinstance(response, Picture):
                    _dress(request, response, route)
            seconds = time.perf_counter() - begun
            access_log.answered(request, response, route=route, request_id=request_id, seconds=seconds)
            return response

        self._watch_gate(door)
        return bounded

    def at_once(self, find: Callable[[RawRequestMessage], Spelled | None], route: str) -> FastPath:
        """The same around what is answered without the framework, as far as the gate need not be waited for."""
        access_log, ids = self._access_log, self._ids
        admit: Admit = anybody

        def door(gate: Gate) -> None:
            nonlocal admit
            admit = gate.at_once(route)

        def answer(message: RawRequestMessage, peer: str) -> bytes | None:
            begun = time.perf_counter()
            try:
                client = admit(peer, message.headers)
                spelled = find(message) if client is not None else None
            except Exception:
                # The handler will meet it again, where it becomes an answer.
                return None
            if spelled is None:
                return None
            request_id = ids.of(message.headers)
            asked = message.method, message.path, client
            seconds = time.perf_counter() - begun
            access_log.answered_at_once(asked, spelled, route=route, request_id=request_id, seconds=seconds)
            return spelled.whole(request_id)

        self._watch_gate(door)
        return answer

    def _watch_gate(self, door: Callable[[Gate], None]) -> None:
        self._doors.append(door)
        if self._gate is not None:
            door(self._gate)

    def _answer(self, request: web.Request, error: Exception, request_id: str) -> web.Response:
        if isinstance(error, web.HTTPException):
            return problem.answer_http(error, request_id)
        if isinstance(error, ImgserverError) and not isinstance(error, ServerFault):
            if AUDITED not in request:
                self._watch(request, error, request_id)
            return problem.answer(error, request_id)
        self._logger.error("server.fault", request_id=request_id, exc_info=error)
        return problem.answer(ServerFault(), request_id)


def anybody(peer: str, _: Headers) -> str | None:
    return peer


async def elsewhere(request: web.Request) -> web.StreamResponse:
    """Whatever no route matches, so that this is counted, logged and answered like everything else; and the question
    that is about the server as a whole (RFC 9110, 9.3.7)."""
    if request.method == hdrs.METH_OPTIONS and request.raw_path == ASTERISK:
        return web.Response(status=204, headers={"Allow": "GET, HEAD, POST, OPTIONS"})
    raise web.HTTPNotFound()


def _dress(request: web.Request, response: web.StreamResponse, route: str) -> None:
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    # Without the field caches guess; and an error that may be kept for a GET says nothing about a POST.
    if request.method == hdrs.METH_POST:
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    if route == IMAGE_ROUTE and (request.method != hdrs.METH_OPTIONS or is_preflight(request)):
        response.headers.update(EMBEDDING)
        if VARY in request:
            response.headers["Vary"] = request[VARY]


def is_preflight(request: web.Request) -> bool:
    """A browser's question before it asks another site (Fetch); any other OPTIONS has nothing to do with CORS."""
    return hdrs.ORIGIN in request.headers and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
