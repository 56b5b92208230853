"""HTTP to picture and back: GET and HEAD, negotiation, validators, cache fields."""

import re
import time
from collections.abc import Callable, Mapping

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, istr

from imgserver.dialects import MountedDialects
from imgserver.errors import NotFound, SourceDenied
from imgserver.headers import caching, ranges
from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.plan import ImageRequest
from imgserver.plan.rendition import Rendition
from imgserver.rendering.admission import Criticality
from imgserver.rendering.variants import RenderRequest, ServedRendition
from imgserver.security.remote_url import OURS, REMOTE
from imgserver.service import ImageService
from imgserver.settings.schema import HttpSettings
from imgserver.web.images.request_cache import ParsedRequest, PreparedResponse, RequestCache
from imgserver.web.images.response_headers import (
    CACHE_STATUS,
    CDN_CACHE_CONTROL,
    MADE,
    ResponseHeaders,
    hit_status,
    stale_status,
)
from imgserver.web.images.responses import PIECE_BYTES, Picture, Ready, Spelled, body_of, date_line, is_plain, spell
from imgserver.web.middleware import VARY, is_preflight

METHODS = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)
ALLOW = ", ".join(METHODS)
CDN_LOOP = istr("CDN-Loop")
PRIORITY = istr("Priority")
SEC_PURPOSE = istr("Sec-Purpose")
_URGENCY = re.compile(r"(?:^|[,\s])u=([0-7])(?=$|[,;\s])")

# Every field that tells caches how long.
LIFETIMES = (hdrs.CACHE_CONTROL, CDN_CACHE_CONTROL)


class ImageHandler:
    """Answers `/img/...`: what memory has `at_once`, to a plain request that was read before; all else as a handler."""

    def __init__(
        self,
        dialects: MountedDialects,
        service: ImageService,
        settings: HttpSettings,
        *,
        admit: Callable[[ImageRequest], None] = lambda _: None,
    ) -> None:
        """`admit` raises for a request that must not be answered, kept or not."""
        self._dialects = dialects
        self._service = service
        self._admit = admit
        self._headers = ResponseHeaders(settings)
        self._timed = settings.server_timing
        self.request_cache = RequestCache(dialects, settings.version_parameter)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS:
            return _preflight() if is_preflight(request) else web.Response(status=204, headers={"Allow": ALLOW})
        begun = time.perf_counter() if self._timed else 0.0
        parsed = self.request_cache.of(request.raw_path)
        left = self._guard(parsed.request, request) if parsed.guarded else None
        prepared = self._choice(parsed, request)
        rendition, served = self._service.get_fresh(prepared.order), None
        if rendition is None:
            served = await self._get(parsed, prepared.order, request)
            rendition = served.rendition
        now = int(time.time())
        if served is not None and served.level:
            headers = self._headers.build_degraded(parsed.request, prepared.order, served, now)
            return self._finished(request, headers, served, left=left, begun=begun)
        self._dress(prepared, parsed, rendition, now)
        is_hit = served is None or served.outcome == "hit"
        if is_hit and left is None and not self._timed and is_plain(request) and request.keep_alive:
            return Ready(_spelled(request.headers, prepared, rendition))
        headers = prepared.fields.copy()
        if served is not None and not is_hit:
            self._tell(headers, served, now)
        return self._finished(
            request, headers, served or ServedRendition(rendition, "hit", "memory"), left=left, begun=begun
        )

    def at_once(self, message: RawRequestMessage) -> Spelled | None:
        """What memory has for a target that was answered before; None: the handler has to be asked."""
        known = self.request_cache.recall(message.path, message.headers)
        if known is None or self._timed or not is_plain(message):
            return None
        parsed, prepared = known
        rendition = self._service.get_fresh(prepared.order)
        if rendition is None:
            return None
        if len(rendition.body) > PIECE_BYTES:
            self._service.cache.undo_hit()
            return None
        self._dress(prepared, parsed, rendition, int(time.time()))
        return _spelled(message.headers, prepared, rendition)

    def _finished(
        self,
        request: web.Request,
        headers: CIMultiDict[str],
        served: ServedRendition,
        *,
        left: int | None,
        begun: float,
    ) -> Picture:
        if self._timed:
            self._headers.time(headers, served, seconds=time.perf_counter() - begun)
        if left is not None:
            _end(headers, left)
        return _answer(request, served.rendition, headers, served.outcome)

    def _guard(self, asked: ImageRequest, request: web.Request) -> int | None:
        """The seconds its URL is still good for; None: no end. Raises Expired, SourceDenied, NotFound."""
        # Each of our fetches holds a place until the next is done: a few URLs that lead through us thirty times over
        # would hold them all.
        if asked.ref.source == REMOTE and OURS in request.headers.get(CDN_LOOP, ""):
            detail = "an address leads through one server of this kind, not through two"
            raise SourceDenied(detail, reason="circle")
        self._admit(asked)
        return None if asked.expires is None else caching.seconds_left(asked.expires, now=time.time())

    def _dress(self, prepared: PreparedResponse, parsed: ParsedRequest, rendition: Rendition, now: int) -> None:
        of = rendition.etag, rendition.modified, rendition.fresh_until
        if prepared.second == now and prepared.of == of:
            return
        if prepared.of != of:
            fields = self._headers.build(parsed.request, prepared.order, rendition, parsed.terms)
            prepared.head = spell(200, [*fields.items(), (hdrs.CONTENT_LENGTH, str(len(rendition.body)))])
            prepared.unmodified = spell(
                304, ((name, value) for name, value in fields.items() if name != hdrs.CONTENT_TYPE)
            )
            prepared.fields = fields
        status = prepared.fields[CACHE_STATUS] = hit_status(rendition, now)
        prepared.passing = f"{CACHE_STATUS}: {status}\r\n".encode() + date_line(now)
        prepared.of, prepared.second = of, now

    def _tell(self, headers: CIMultiDict[str], served: ServedRendition, now: int) -> None:
        """Of what is no plain hit."""
        if served.outcome == "stale":
            headers[CACHE_STATUS] = stale_status(served.rendition, now)
            self._headers.outdate(headers, served.rendition, now=now)
        else:
            headers[CACHE_STATUS] = MADE[served.outcome]

    def _choice(self, parsed: ParsedRequest, request: web.Request) -> PreparedResponse:
        if parsed.vary:
            request[VARY] = parsed.vary
        offers, hints = parsed.told(request.headers)
        return parsed.chosen(offers, hints) or parsed.choose(offers, hints, self._order(parsed, offers, hints))

    def _order(self, parsed: ParsedRequest, offers: tuple[str, ...], hints: Hints) -> RenderRequest:
        """Read again with the hints, where a number of the plan stands for them."""
        asked = parsed.request if hints == NO_HINTS else self._dialects.parse(parsed.target, hints)
        return self._service.pipeline_version.render_request(asked, offers, save_data=hints.save_data)

    async def _get(self, parsed: ParsedRequest, order: RenderRequest, request: web.Request) -> ServedRendition:
        try:
            return await self._service.get(order, criticality_of(request))
        except NotFound as error:
            if parsed.request.not_found_hint is None:
                raise
            raise NotFound(f"{error.detail}; {parsed.request.not_found_hint}") from error


def _spelled(asked: Mapping[str, str], prepared: PreparedResponse, rendition: Rendition) -> Spelled:
    if _is_not_modified(asked, rendition):
        return Spelled("not_modified", 304, prepared.unmodified, prepared.passing, b"")
    return Spelled("hit", 200, prepared.head, prepared.passing, rendition.body)


def _end(headers: CIMultiDict[str], seconds: int) -> None:
    """No copy outlives the link."""
    for name in LIFETIMES:
        if name in headers:
            headers[name] = caching.bounded(headers[name], seconds=seconds)


def _is_not_modified(asked: Mapping[str, str], rendition: Rendition) -> bool:
    none_match, modified_since = asked.get(hdrs.IF_NONE_MATCH), asked.get(hdrs.IF_MODIFIED_SINCE)
    return bool(none_match or modified_since) and caching.is_not_modified(
        none_match=none_match, modified_since=modified_since, etag=rendition.etag, modified=rendition.modified
    )


def _answer(request: web.Request, rendition: Rendition, headers: CIMultiDict[str], outcome: str) -> Picture:
    if _is_not_modified(request.headers, rendition):
        del headers[hdrs.CONTENT_TYPE]
        return _picture("not_modified", headers, b"", status=304)
    if hdrs.RANGE in request.headers and request.method == hdrs.METH_GET:
        return _ranged(request, rendition, headers, outcome)
    return _picture(outcome, headers, rendition.body)


def _ranged(request: web.Request, rendition: Rendition, headers: CIMultiDict[str], outcome: str) -> Picture:
    """Slicing CDNs ask for ranges. Several at once, or an If-Range of another representation, get the whole."""
    length = len(rendition.body)
    span = ranges.span_of(request.headers[hdrs.RANGE], length)
    if span is None or not ranges.applies(request.headers.get(hdrs.IF_RANGE), rendition.etag):
        return _picture(outcome, headers, rendition.body)
    headers[hdrs.CONTENT_RANGE] = span.content_range(length)
    if span.is_empty:
        headers[hdrs.CACHE_CONTROL] = "no-store"
        headers.popall(CDN_CACHE_CONTROL, None)
        del headers[hdrs.CONTENT_TYPE]
        return _picture("refused", headers, b"", status=416)
    return _picture(outcome, headers, rendition.body[span.start : span.stop], status=206)


def _picture(outcome: str, headers: CIMultiDict[str], body: bytes, *, status: int = 200) -> Picture:
    picture = Picture(status=status, headers=headers, body=body_of(body) if status != 304 else None)
    picture.outcome, picture.length = outcome, len(body)
    return picture


def _preflight() -> web.Response:
    """Anybody may embed pictures, and ask again tomorrow (Fetch, CORS preflight)."""
    headers = {
        "Allow": ALLOW,
        "Access-Control-Allow-Methods": ALLOW,
        "Access-Control-Allow-Headers": "*",
        "Access-Control-Max-Age": "86400",
        "Cache-Control": "max-age=86400",
    }
    return web.Response(status=204, headers=headers)


def criticality_of(request: web.Request) -> Criticality:
    """Hints only (RFC 9218; Sec-Purpose): they decide who is shed first, never what is answered."""
    if request.headers.get(SEC_PURPOSE, "").startswith("prefetch"):
        return Criticality.LOW
    priority = request.headers.get(PRIORITY)
    urgency = _URGENCY.search(priority) if priority is not None else None
    if urgency is None or urgency[1] == "3":
        return Criticality.NORMAL
    return Criticality.URGENT if urgency[1] < "3" else Criticality.LOW
