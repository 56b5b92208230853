"""The image handler: GET, HEAD and OPTIONS of the mounts of the dialects.

A hit is answered on the fast path, if it can be (`web/fast_path.py`). The life of a miss, and of every other request:

1. The request cache parses the target once. A link that expires and a remote URL are checked for each request.
2. Accept and client hints select the variant: its render request has the concrete format and size.
3. The service returns the rendition: from a cache tier, or from a render, which concurrent requests share.
4. The headers are built. If-Match and If-Unmodified-Since may make a 412 of the response, If-None-Match and
   If-Modified-Since a 304, Range a 206 or 416.
5. The boundary (`web/middleware.py`) adds the request id and records the request; then aiohttp sends the response. The
   cache tiers are written after that, in the background.
"""

import re
import time
from collections.abc import Callable

from aiohttp import hdrs, web
from multidict import CIMultiDict, istr

from imgserver.dialects import MountedDialects
from imgserver.errors import NotFound, SourceDenied
from imgserver.headers import caching, ranges
from imgserver.headers.caching import Cacheability
from imgserver.headers.cdn_loop import cdn_ids
from imgserver.headers.field_lines import combined
from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.plan import ImageRequest
from imgserver.plan.rendition import Rendition
from imgserver.rendering.client_queue import Criticality, Requester
from imgserver.rendering.variants import RenderRequest, ServedRendition
from imgserver.security.networks import client_of
from imgserver.security.remote_url import CDN_LOOP_ID, REMOTE
from imgserver.service import ImageService
from imgserver.settings.schema import HttpSettings
from imgserver.web.images.event_fields import event_fields
from imgserver.web.images.request_cache import (
    ParsedRequest,
    PreparedResponse,
    RequestCache,
    check_preconditions,
    is_not_modified,
    is_plain,
)
from imgserver.web.images.response_headers import (
    CACHE_STATUS,
    CDN_CACHE_CONTROL,
    ResponseHeaders,
    hit_status,
    limit_to_expiry,
    miss_status,
    not_modified,
    stale_status,
)
from imgserver.web.images.responses import ImageResponse, serialize
from imgserver.web.middleware import VARY, is_preflight

METHODS = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)
ALLOW = ", ".join(METHODS)
CDN_LOOP = istr("CDN-Loop")
PRIORITY = istr("Priority")
SEC_PURPOSE = istr("Sec-Purpose")
_URGENCY = re.compile(r"(?:^|[,\s])u=([0-7])(?=$|[,;\s])")


class ImageHandler:
    """The fast path shares `service`, `request_cache` and `headers`. `has_timing`: responses carry Server-Timing."""

    def __init__(
        self,
        dialects: MountedDialects,
        service: ImageService,
        settings: HttpSettings,
        *,
        admit: Callable[[ImageRequest], None] = lambda _: None,
    ) -> None:
        """`admit` raises for a remote source that must not be answered, neither rendered nor from a cache."""
        self.service = service
        self.headers = ResponseHeaders(settings)
        self.request_cache = RequestCache(dialects, settings.version_parameter)
        self.has_timing = settings.server_timing
        self._dialects = dialects
        self._admit = admit

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS:
            return _preflight() if is_preflight(request) else web.Response(status=204, headers={"Allow": ALLOW})
        started = time.perf_counter()
        parsed = self.request_cache.parse(request.raw_path)
        expires_in = self._check(parsed.request, request) if parsed.guarded else None
        prepared = self._negotiate(parsed, request)
        served = await self._get(parsed, prepared.render_request, request)
        if not served.level:
            self.headers.refresh(prepared, parsed, served.rendition, int(time.time()))
            self.request_cache.put(parsed)
        is_hit = served.outcome == "hit" and not served.level
        if is_hit and expires_in is None and not self.has_timing and is_plain(request.headers):
            version = self.request_cache.version_in(request.raw_path)
            selected = prepared.select(request.headers, served.rendition, version)
            return ImageResponse(*selected, prepared.event_fields)
        headers = self._headers_of(request.raw_path, parsed, prepared.render_request, served)
        if self.has_timing:
            self.headers.add_timing(headers, served, seconds=time.perf_counter() - started)
        if expires_in is not None:
            limit_to_expiry(headers, expires_in)
        response = _respond(request, served.rendition, headers, served.outcome)
        response.event_fields = event_fields(served)
        return response

    def _check(self, parsed: ImageRequest, request: web.Request) -> int | None:
        """Checks what a cached response cannot know; returns the seconds until the URL expires, or None. Raises
        Expired, SourceDenied and NotFound."""
        # Each fetch of ours holds a place until the next one is done: a few URLs that lead through this server thirty
        # times would hold all places.
        if parsed.ref.source == REMOTE and CDN_LOOP_ID in cdn_ids(combined(request.headers, CDN_LOOP) or ""):
            detail = "an address leads through one server of this kind, not through two"
            raise SourceDenied(detail, reason="loop")
        self._admit(parsed)
        return None if parsed.expires is None else caching.seconds_left(parsed.expires, now=time.time())

    def _negotiate(self, parsed: ParsedRequest, request: web.Request) -> PreparedResponse:
        if parsed.vary:
            request[VARY] = parsed.vary
        offers, hints = parsed.negotiate(request.headers)
        return parsed.get(offers, hints) or parsed.add(offers, hints, self._render_request(parsed, offers, hints))

    def _render_request(self, parsed: ParsedRequest, offers: tuple[str, ...], hints: Hints) -> RenderRequest:
        """Parses the target again if client hints give numbers of the plan."""
        image_request = parsed.request if hints == NO_HINTS else self._dialects.parse(parsed.target, hints)
        return self.service.pipeline_version.render_request(image_request, offers, save_data=hints.save_data)

    async def _get(self, parsed: ParsedRequest, render_request: RenderRequest, request: web.Request) -> ServedRendition:
        rendition = self.service.get_fresh(render_request)
        if rendition is not None:
            return ServedRendition(rendition, "hit", "memory")
        try:
            return await self.service.get(render_request, requester_of(request, render_request))
        except NotFound as error:
            if parsed.request.not_found_hint is None:
                raise
            raise NotFound(f"{error.detail}; {parsed.request.not_found_hint}") from error

    def _headers_of(
        self, target: str, parsed: ParsedRequest, render_request: RenderRequest, served: ServedRendition
    ) -> CIMultiDict[str]:
        """The headers of a 200 with this rendition."""
        now, rendition = int(time.time()), served.rendition
        if served.level:
            return self.headers.build_degraded(parsed.request, render_request, served, now)
        cacheability = Cacheability(versioned=self.headers.is_versioned(target, parsed, rendition))
        headers = self.headers.build(parsed.request, render_request, rendition, cacheability)
        headers[hdrs.DATE] = caching.http_date(now)
        if served.outcome == "hit":
            headers[CACHE_STATUS] = hit_status(rendition, now)
        elif served.outcome == "stale":
            headers[CACHE_STATUS] = stale_status(rendition, now)
            self.headers.limit_stale(headers, rendition, now=now)
        else:
            headers[CACHE_STATUS] = miss_status(served)
        return headers


def _respond(request: web.Request, rendition: Rendition, headers: CIMultiDict[str], outcome: str) -> ImageResponse:
    """Evaluates the conditional headers in the order of RFC 9110, 13.2.2. Raises PreconditionFailed."""
    check_preconditions(request.headers, rendition)
    if is_not_modified(request.headers, rendition):
        return ImageResponse(304, "not_modified", serialize(304, not_modified(headers)), b"")
    if hdrs.RANGE in request.headers and request.method == hdrs.METH_GET:
        return _respond_range(request, rendition, headers, outcome)
    return ImageResponse(200, outcome, serialize(200, headers), rendition.body)


def _respond_range(
    request: web.Request, rendition: Rendition, headers: CIMultiDict[str], outcome: str
) -> ImageResponse:
    """CDNs that slice request single ranges. Several ranges, or an If-Range with another ETag, get the whole body."""
    length = len(rendition.body)
    span = ranges.parse_range(combined(request.headers, hdrs.RANGE), length)
    if span is None or not ranges.if_range_matches(combined(request.headers, hdrs.IF_RANGE), rendition.etag):
        return ImageResponse(200, outcome, serialize(200, headers), rendition.body)
    headers[hdrs.CONTENT_RANGE] = span.content_range(length)
    headers[hdrs.CONTENT_LENGTH] = str(max(0, span.stop - span.start))
    if span.is_empty:
        headers[hdrs.CACHE_CONTROL] = "no-store"
        headers.popall(CDN_CACHE_CONTROL, None)
        del headers[hdrs.CONTENT_TYPE]
        return ImageResponse(416, "refused", serialize(416, headers), b"")
    return ImageResponse(206, outcome, serialize(206, headers), rendition.body[span.start : span.stop])


def _preflight() -> web.Response:
    """Every site may embed images; browsers may cache this answer for a day (Fetch, CORS preflight)."""
    headers = {
        "Allow": ALLOW,
        "Access-Control-Allow-Methods": ALLOW,
        "Access-Control-Allow-Headers": "*",
        "Access-Control-Max-Age": "86400",
        "Cache-Control": "max-age=86400",
    }
    return web.Response(status=204, headers=headers)


def requester_of(request: web.Request, render_request: RenderRequest) -> Requester:
    """The owner of the site vouches for signed URLs: a flood of others from the same address, such as that of a CDN,
    does not count against their share."""
    client = client_of(request.remote)
    return Requester(client if render_request.metered else f"{client} signed", criticality_of(request))


def criticality_of(request: web.Request) -> Criticality:
    """From Priority (RFC 9218) and Sec-Purpose: it decides which requests are shed first, never what is answered."""
    if request.headers.get(SEC_PURPOSE, "").startswith("prefetch"):
        return Criticality.LOW
    priority = combined(request.headers, PRIORITY)
    urgency = _URGENCY.search(priority) if priority is not None else None
    if urgency is None or urgency[1] == "3":
        return Criticality.NORMAL
    return Criticality.URGENT if urgency[1] < "3" else Criticality.LOW
