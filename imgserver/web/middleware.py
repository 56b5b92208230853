"""What surrounds every handler: request ids, allowed methods, access rules, errors as responses, common headers, and
the access log.

A handler is wrapped where its route is registered. As an aiohttp middleware the same would cost each request 2 µs more,
for partial functions and wrappers that aiohttp creates per request.
"""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiohttp import hdrs, web
from multidict import MultiMapping, istr
from structlog.typing import FilteringBoundLogger

from imgserver.errors import ImgserverError, Overloaded, ServerFault, drop_tracebacks
from imgserver.observability.audit import REQUEST_CONTEXT
from imgserver.observability.logs import cut
from imgserver.observability.metrics import IMAGE_ROUTE
from imgserver.security.redaction import redact
from imgserver.web import problem
from imgserver.web.access_log import EVENT_FIELDS, QUIET_ROUTES, AccessLog
from imgserver.web.cors import READABLE, CrossOriginReads
from imgserver.web.images.responses import ImageResponse
from imgserver.web.request_target import ASTERISK

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Headers = MultiMapping[str]
# The client's address, from the address of the peer and the headers of the request. None: the request is refused, or
# the check has to wait, so that the fast path must not answer.
FastAdmission = Callable[[str, Headers], str | None]

READING = (hdrs.METH_GET, hdrs.METH_HEAD)
# The name of the route of everything that no handler matches.
UNROUTED = "other"
REQUEST_ID = istr("X-Request-Id")
# Set on a request when its Vary is known, so that an error response gets it too.
VARY = web.RequestKey("vary", str)
# Set by a handler that has already reported the error that it raises to the audit.
AUDITED = web.RequestKey("audited", bool)

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Server": "imgserver",
}
# On images and on their errors: any site may embed them. `web/cors.py` decides who may read them.
EMBEDDING = {"Cross-Origin-Resource-Policy": "cross-origin"}

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    def of(self, headers: Mapping[str, str]) -> str:
        """The client's X-Request-Id if it is safe, else a new id: unique by a random prefix and a count."""
        given = headers.get(REQUEST_ID)
        if given is not None and _SAFE_ID.fullmatch(given):
            return given
        return f"{self._prefix}-{next(self._count):x}"


class AccessRules(Protocol):
    """Checks requests before their handlers. `has_proxies`: the client's address may differ from that of the peer."""

    has_proxies: bool

    def identify(self, request: web.Request) -> web.Request:
        """The request with the client's address as its `remote`."""

    def wrap(self, handler: Handler, route: str) -> Handler:
        """The handler behind the checks of this route."""

    def check_address(self, address: str) -> None:
        """Raises AddressDenied for the address of a client that no handler may answer."""

    def fast_admission(self, route: str) -> FastAdmission | None:
        """The checks of this route that need not wait; None: every request is admitted."""


# Is called for each of our errors that becomes a response, with the id of the request.
ErrorObserver = Callable[[web.Request, ImgserverError, str], None]


class Boundary:
    """Wraps handlers: no error and no request passes it without a response and a record in the access log."""

    def __init__(
        self,
        access_log: AccessLog,
        logger: FilteringBoundLogger,
        observe_error: ErrorObserver,
        cross_origin_reads: CrossOriginReads,
    ) -> None:
        self.access_log = access_log
        self.cross_origin_reads = cross_origin_reads
        self.request_ids = RequestIds()
        self.is_draining = False
        """Whether every new request is refused, but for probes and metrics. Requests in progress are not affected."""
        self._logger = logger
        self._observe_error = observe_error
        self._rules: AccessRules | None = None
        self._followers: list[Callable[[AccessRules], None]] = []

    def install(self, rules: AccessRules) -> None:
        """Puts the rules into force for all handlers, from the next request on."""
        self._rules = rules
        for adopt in self._followers:
            adopt(rules)

    def follow_rules(self, adopt: Callable[[AccessRules], None]) -> None:
        """Calls `adopt` with the rules in force, if there are any, and with all later ones."""
        self._followers.append(adopt)
        if self._rules is not None:
            adopt(self._rules)

    def wrap(self, handler: Handler, route: str, methods: tuple[str, ...] = READING) -> Handler:
        """The handler with everything that holds for all handlers. `route` is its name in metrics and events."""
        access_log, request_ids, cross_origin_reads = self.access_log, self.request_ids, self.cross_origin_reads
        refuses_while_draining = route not in QUIET_ROUTES
        unchecked, identify = handler, None
        refuse_method = refuse_unchecked = _method_refusal(methods)
        refuse_new: Handler = _refuse_while_draining

        # The rules rebind these names, so that a request pays nothing for rules that check nothing.
        def adopt(rules: AccessRules) -> None:
            nonlocal handler, identify, refuse_method, refuse_new
            handler = rules.wrap(unchecked, route)
            # A client that is denied learns nothing about the methods and the state of the server.
            refuse_method, refuse_new = (rules.wrap(one, route) for one in (refuse_unchecked, _refuse_while_draining))
            identify = rules.identify if rules.has_proxies else None

        async def wrapped(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            if identify is not None:
                request = identify(request)
            request_id = request_ids.of(request.headers)
            REQUEST_CONTEXT.set((request_id, request.remote))
            access_log.in_progress += 1
            try:
                if self.is_draining and refuses_while_draining:
                    response = await refuse_new(request)
                elif request.method not in methods:
                    response = await refuse_method(request)
                else:
                    response = await handler(request)
            except asyncio.CancelledError:
                seconds = time.perf_counter() - started
                access_log.record_disconnect(request, route=route, request_id=request_id, seconds=seconds)
                raise
            except Exception as error:
                response = self._respond(request, error, request_id)
                drop_tracebacks(error)
            finally:
                access_log.in_progress -= 1
            if isinstance(response, ImageResponse):
                response.request_id = request_id
                response.cors_lines = cross_origin_reads.lines(request.headers)
            else:
                response.headers[REQUEST_ID] = request_id
                _add_headers(request, response, route)
                if is_embeddable(request, route) and cross_origin_reads.allows(request.headers):
                    response.headers.update(READABLE)
            seconds = time.perf_counter() - started
            access_log.record_response(request, response, route=route, request_id=request_id, seconds=seconds)
            return response

        self.follow_rules(adopt)
        return wrapped

    def refuse(self, request: web.Request, error: Exception) -> web.Response:
        """The response to a request that reaches no handler, such as a malformed one; the connection ends with it.

        The lists of the policy come first, as for all requests. Where no header could be parsed, no proxy can report
        the client's address, and the address of the peer counts.
        """
        if self._rules is not None and self._rules.has_proxies:
            request = self._rules.identify(request)
        request_id = self.request_ids.of(request.headers)
        REQUEST_CONTEXT.set((request_id, request.remote))
        try:
            if self._rules is not None:
                self._rules.check_address(request.remote or "")
        except ImgserverError as denied:
            error = denied
        response = self._respond(request, error, request_id)
        drop_tracebacks(error)
        response.headers[REQUEST_ID] = request_id
        _add_headers(request, response, UNROUTED)
        response.force_close()
        self.access_log.record_response(request, response, route=UNROUTED, request_id=request_id, seconds=0.0)
        return response

    def _respond(self, request: web.Request, error: Exception, request_id: str) -> web.Response:
        if isinstance(error, web.HTTPException):
            return problem.answer_http(error, request_id)
        request[EVENT_FIELDS] = {**request.get(EVENT_FIELDS, {}), **_error_fields(error)}
        if isinstance(error, ImgserverError) and not isinstance(error, ServerFault):
            if AUDITED not in request:
                self._observe_error(request, error, request_id)
            return problem.answer(error, request_id)
        self._logger.error("server.fault", request_id=request_id, exc_info=error)
        return problem.answer(ServerFault(), request_id)


def _error_fields(error: Exception) -> dict[str, object]:
    """What the access log says about an error, besides its code."""
    if not isinstance(error, ImgserverError):
        return {"reason": type(error).__name__}
    reason = error.facts.get("reason", error.facts.get("limit", error.facts.get("argument")))
    return {"reason": reason, "detail": cut(redact(error.detail))}


def _method_refusal(methods: tuple[str, ...]) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, methods)

    return refuse


async def _refuse_while_draining(_: web.Request) -> web.StreamResponse:
    raise Overloaded("The server is stopping", reason="drain", retry_after=1)


async def handle_unrouted(request: web.Request) -> web.StreamResponse:
    """Handles what no route matches, so that it is counted, logged and answered like everything else. `OPTIONS *` is
    about the server as a whole (RFC 9110, 9.3.7). Raises HTTPNotFound for everything else."""
    if request.method == hdrs.METH_OPTIONS and request.raw_path == ASTERISK:
        return web.Response(status=204, headers={"Allow": "GET, HEAD, POST, OPTIONS"})
    raise web.HTTPNotFound()


def _add_headers(request: web.Request, response: web.StreamResponse, route: str) -> None:
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    # Without Cache-Control, caches guess a lifetime. An error to a GET may be cached, the same error to a POST may not.
    if request.method == hdrs.METH_POST:
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    if is_embeddable(request, route):
        response.headers.update(EMBEDDING)
        if VARY in request:
            response.headers["Vary"] = request[VARY]


def is_embeddable(request: web.Request, route: str) -> bool:
    """Whether pages of other sites may embed the response."""
    return route == IMAGE_ROUTE and (request.method != hdrs.METH_OPTIONS or is_preflight(request))


def is_preflight(request: web.Request) -> bool:
    """Whether this is a browser's CORS preflight (Fetch); any other OPTIONS request has nothing to do with CORS."""
    return hdrs.ORIGIN in request.headers and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
