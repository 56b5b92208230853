"""The headers of image responses: what browsers, CDNs and people who look for an error read."""

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import quote

from aiohttp import hdrs
from multidict import CIMultiDict, istr

from imgserver.cache.cache_tags import header_groups
from imgserver.headers import caching, negotiation
from imgserver.headers.caching import Cacheability
from imgserver.plan.canonical import version_of
from imgserver.plan.formats import format_of_media_type
from imgserver.plan.plan import ImageRequest
from imgserver.plan.rendition import Rendition
from imgserver.rendering.variants import RenderRequest, ServedRendition
from imgserver.settings.schema import HttpSettings
from imgserver.web.images.event_fields import hit_fields, stage_seconds
from imgserver.web.images.request_cache import ParsedRequest, PreparedResponse
from imgserver.web.images.responses import serialize_lines
from imgserver.web.middleware import EMBEDDING, SECURITY

CACHE_STATUS = istr("Cache-Status")
CDN_CACHE_CONTROL = istr("CDN-Cache-Control")
SERVER_TIMING = istr("Server-Timing")
# How long other caches may keep a degraded rendition: the load of a moment must not outlast it in a CDN.
DEGRADED_SECONDS = 30
_MISS_STATUS = {
    "joined": "imgserver; fwd=uri-miss; collapsed",
    "rendered": "imgserver; fwd=uri-miss; stored",
}
# The headers that tell caches how long they may keep a response.
LIFETIME_HEADERS = (hdrs.CACHE_CONTROL, CDN_CACHE_CONTROL)
# The headers that a 304 does not have.
CONTENT_HEADERS = (hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH)


class ResponseHeaders:
    """Builds the headers of image responses. The headers of a hit are built once per rendition (`refresh`)."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        # All renditions of a source have the same few lifetimes, and share their lines.
        self._lifetime_lines = lru_cache(maxsize=64)(self._serialize_lifetimes)

    def build(
        self, request: ImageRequest, render_request: RenderRequest, rendition: Rendition, cacheability: Cacheability
    ) -> CIMultiDict[str]:
        """The headers of a 200, without Cache-Status and Date, which change with time, and without the request id."""
        headers = CIMultiDict({**SECURITY, **EMBEDDING})
        headers[hdrs.CONTENT_TYPE] = rendition.media_type
        headers[hdrs.ACCEPT_RANGES] = "bytes"
        headers["ETag"] = f'"{rendition.etag}"'
        self._set_lifetimes(headers, _of_source(cacheability, rendition))
        # A rendition that was stored under another name of its original has the groups of that name.
        stored_groups = (group for group, _ in rendition.generations)
        self._set_cache_groups(headers, header_groups(dict.fromkeys((*render_request.groups, *stored_groups))))
        if rendition.modified is not None:
            headers["Last-Modified"] = caching.http_date(rendition.modified)
        if vary := negotiation.vary(request):
            headers["Vary"] = vary
        if request.hints:
            # Browsers send Save-Data without Accept-CH.
            wanted = [negotiation.HINT_FIELDS[hint][0] for hint in request.hints if hint != "save_data"]
            if wanted:
                headers["Accept-CH"] = ", ".join(wanted)
        if request.attachment is not None:
            headers["Content-Disposition"] = disposition(request, rendition)
        headers[hdrs.CONTENT_LENGTH] = str(len(rendition.body))
        return headers

    def refresh(self, prepared: PreparedResponse, parsed: ParsedRequest, rendition: Rendition, now: int) -> None:
        """Brings `prepared` up to date for a hit of `rendition` in the second `now` of the epoch."""
        basis = rendition.etag, rendition.fingerprint, rendition.modified, rendition.fresh_until
        if prepared.second == now and prepared.basis == basis:
            return
        if prepared.basis != basis:
            self._prepare(prepared, parsed, rendition)
        status, date = hit_status(rendition, now), _http_date(now)
        prepared.changing_lines = f"{CACHE_STATUS}: {status}\r\n{hdrs.DATE}: {date}\r\n".encode()
        prepared.basis, prepared.second = basis, now

    def _prepare(self, prepared: PreparedResponse, parsed: ParsedRequest, rendition: Rendition) -> None:
        """Serializes the header lines of a hit of this rendition, whatever the query of the request is."""
        prepared.version = version_of(rendition.fingerprint)
        prepared.event_fields = hit_fields(rendition.media_type)
        headers = self.build(parsed.request, prepared.render_request, rendition, Cacheability())
        prepared.content_lines = serialize_lines((name, headers.pop(name)) for name in CONTENT_HEADERS)
        for name in (*SECURITY, *EMBEDDING, *LIFETIME_HEADERS):
            headers.popall(name, None)
        prepared.shared_lines = serialize_lines(headers.items())
        prepared.versioned_lines = self._lifetime_lines(_of_source(Cacheability(versioned=True), rendition))
        # A query that is a part of the parsed target is the same in all its requests.
        cacheability = Cacheability(versioned=self.is_versioned(parsed.target, parsed, rendition))
        prepared.lifetime_lines = self._lifetime_lines(_of_source(cacheability, rendition))

    def _serialize_lifetimes(self, cacheability: Cacheability) -> bytes:
        headers = CIMultiDict[str]()
        self._set_lifetimes(headers, cacheability)
        return serialize_lines(headers.items())

    def is_versioned(self, target: str, parsed: ParsedRequest, rendition: Rendition) -> bool:
        """Whether the query of the target names a version that only the owner knows: the original's own, or one that a
        signature covers.

        Anybody can write any other version, also one that the owner will publish tomorrow with another picture. If such
        a response were cached for a year, a stranger could fix the old picture under that URL.
        """
        version = caching.version_in(target.partition("?")[2], self._settings.version_parameter)
        return bool(version) and (parsed.request.query_signed or version == version_of(rendition.fingerprint))

    def build_degraded(
        self, request: ImageRequest, render_request: RenderRequest, served: ServedRendition, now: int
    ) -> CIMultiDict[str]:
        """The headers of a degraded rendition, which other caches may keep for DEGRADED_SECONDS."""
        rendition = served.rendition
        headers = self.build(request, render_request, rendition, Cacheability(useful_seconds=DEGRADED_SECONDS))
        hit = served.outcome == "hit"
        status = hit_status(rendition, now) if hit else _MISS_STATUS[served.outcome].removesuffix("; stored")
        headers[CACHE_STATUS] = f"{status}; detail=degraded/{served.level.name.lower()}"
        headers[hdrs.DATE] = _http_date(now)
        return headers

    def limit_stale(self, headers: CIMultiDict[str], rendition: Rendition, *, now: int) -> None:
        """Bounds the lifetime of a stale rendition: other caches keep it briefly, and not beyond its expiry here."""
        useful = caching.STALE_MAX_AGE_SECONDS if rendition.expires is None else int(rendition.expires) - now
        self._set_lifetimes(headers, _of_source(Cacheability(useful_seconds=useful), rendition))

    def add_timing(self, headers: CIMultiDict[str], served: ServedRendition, *, seconds: float) -> None:
        """Adds the tier to Cache-Status, and the duration of each stage as Server-Timing; `seconds` is the total."""
        if tier := served.tier:
            status = headers[CACHE_STATUS].partition("; detail=")
            headers[CACHE_STATUS] = f"{status[0]}; detail={status[2] + '/' if status[2] else ''}{tier}"
        headers[SERVER_TIMING] = ", ".join(
            [f"cache;desc={tier or 'miss'}", *_stages(served), _duration("total", seconds)]
        )

    def _set_lifetimes(self, headers: CIMultiDict[str], cacheability: Cacheability) -> None:
        headers[hdrs.CACHE_CONTROL] = caching.cache_control(self._settings, cacheability)
        cdn = caching.cdn_cache_control(self._settings, cacheability)
        if cdn is not None:
            headers[CDN_CACHE_CONTROL] = cdn

    def _set_cache_groups(self, headers: CIMultiDict[str], groups: tuple[str, ...]) -> None:
        """Cache-Groups (RFC 9875), and the headers of Fastly (Surrogate-Key) and Cloudflare (Cache-Tag)."""
        headers["Cache-Groups"] = ", ".join(map('"{}"'.format, groups))
        if self._settings.surrogate_key:
            headers["Surrogate-Key"] = " ".join(groups)
        if self._settings.cache_tag:
            headers["Cache-Tag"] = ",".join(groups)


def _of_source(cacheability: Cacheability, rendition: Rendition) -> Cacheability:
    return replace(cacheability, source_seconds=rendition.max_age_seconds, policy=rendition.cache_policy)


def not_modified(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """The headers of a 304, from those of the 200."""
    headers = headers.copy()
    for name in CONTENT_HEADERS:
        del headers[name]
    return headers


def limit_to_expiry(headers: CIMultiDict[str], seconds: int) -> None:
    """Bounds the lifetimes so that no cached copy outlives the link, which expires in `seconds`."""
    for name in LIFETIME_HEADERS:
        if name in headers:
            headers[name] = caching.bounded(headers[name], seconds=seconds)


@lru_cache(maxsize=2)
def _http_date(epoch_seconds: int) -> str:
    return caching.http_date(epoch_seconds)


def hit_status(rendition: Rendition, now: int) -> str:
    """Cache-Status of a hit (RFC 9211); `ttl` is the remaining freshness in whole seconds."""
    if rendition.fresh_until is None:
        return "imgserver; hit"
    return f"imgserver; hit; ttl={int(rendition.fresh_until) - now}"


def miss_status(served: ServedRendition) -> str:
    """Cache-Status of a rendition that this request, or one that it joined, has rendered."""
    status = _MISS_STATUS[served.outcome]
    return status if served.rendition.cache_policy.allows_shared_caches else status.removesuffix("; stored")


def stale_status(rendition: Rendition, now: int) -> str:
    """Cache-Status of a stale rendition. `ttl` is at most 0, also if only the original has changed."""
    ttl = 0 if rendition.fresh_until is None else min(0, int(rendition.fresh_until) - now)
    return f"imgserver; hit; ttl={ttl}; detail=stale"


def _stages(served: ServedRendition) -> list[str]:
    """The stages of the render that this request started or joined; none for a cached rendition."""
    stages = served.rendition.stages if not served.tier else None
    return [_duration(name, seconds) for name, seconds in stage_seconds(stages).items()] if stages else []


def _duration(name: str, seconds: float) -> str:
    return f"{name};dur={seconds * 1000:.3f}"


def disposition(request: ImageRequest, rendition: Rendition) -> str:
    """Content-Disposition for `fl_attachment`: the name in the URL or that of the source, and the suffix of the format.

    A non-ASCII name is sent in the extended form (RFC 8187), with an ASCII fallback.
    """
    stem = request.attachment or PurePosixPath(request.ref.path).stem
    name = stem + suffix_of(rendition.media_type)
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


def suffix_of(media_type: str) -> str:
    row = format_of_media_type(media_type)
    return row.suffix if row else ""
