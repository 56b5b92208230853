"""Around every handler: request id, errors into answers, security headers, and the entry in the ledger."""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from imgserver.errors import ImgserverError, ServerFault
from imgserver.web import problem
from imgserver.web.ledger import IMAGE_ROUTE, OUTCOME, Ledger, route_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Set on the request once it is known that its answer, error or not, depends on Accept.
NEGOTIATED = "imgserver.negotiated"

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

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """A client's id when it is harmless, else one of ours: unique by a random start and a count."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(6)
        self._count = itertools.count(1)

    def of(self, request: web.Request) -> str:
        given = request.headers.get("X-Request-Id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return f"{self._start}-{next(self._count):x}"


def make_boundary(ledger: Ledger, logger: FilteringBoundLogger) -> Callable[..., Awaitable[web.StreamResponse]]:
    ids = RequestIds()

    @web.middleware
    async def boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
        begun = time.perf_counter()
        request_id = ids.of(request)
        try:
            response = await handler(request)
        except asyncio.CancelledError:
            ledger.left(request, request_id, time.perf_counter() - begun)
            raise
        except Exception as error:
            response = _answer(error, request_id, logger)
        _dress(request, response, request_id)
        ledger.answered(request, response, request_id, time.perf_counter() - begun)
        return response

    return boundary


def _answer(error: Exception, request_id: str, logger: FilteringBoundLogger) -> web.Response:
    if isinstance(error, web.HTTPException):
        return problem.answer_http(error, request_id)
    if isinstance(error, ImgserverError) and not isinstance(error, ServerFault):
        return problem.answer(error, request_id)
    logger.error("server.fault", request_id=request_id, exc_info=error)
    return problem.answer(ServerFault(), request_id)


def _dress(request: web.Request, response: web.StreamResponse, request_id: str) -> None:
    headers = response.headers
    headers["X-Request-Id"] = request_id
    if OUTCOME in response:  # pictures come fully dressed: their fields are made once, not per request
        return
    for name, value in SECURITY.items():
        headers.setdefault(name, value)
    if route_of(request) == IMAGE_ROUTE:
        headers.update(EMBEDDING)
        if NEGOTIATED in request:
            headers["Vary"] = "Accept"
