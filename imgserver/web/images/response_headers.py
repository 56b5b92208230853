"""The header fields of pictures: what browsers, CDNs and people with a problem are told."""

import re
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import quote

from aiohttp import hdrs
from multidict import CIMultiDict, istr

from imgserver.cache.cache_tags import header_groups
from imgserver.headers import caching, negotiation
from imgserver.headers.caching import Terms
from imgserver.plan.formats import format_of_media_type
from imgserver.plan.plan import ImageRequest
from imgserver.plan.rendition import Rendition
from imgserver.rendering.variants import RenderRequest, ServedRendition
from imgserver.settings.schema import HttpSettings
from imgserver.web.middleware import EMBEDDING, SECURITY

CACHE_STATUS = istr("Cache-Status")
CDN_CACHE_CONTROL = istr("CDN-Cache-Control")
SERVER_TIMING = istr("Server-Timing")
# What a degraded answer may be kept for by others; the load of a moment must not last in a CDN.
DEGRADED_SECONDS = 30
MADE = {
    "joined": "imgserver; fwd=uri-miss; collapsed",
    "rendered": "imgserver; fwd=uri-miss; stored",
}


class ResponseHeaders:
    """Dresses answers. What is the same for every hit of a rendition is dressed once, and copied per answer."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings

    def build(
        self, request: ImageRequest, order: RenderRequest, rendition: Rendition, terms: Terms
    ) -> CIMultiDict[str]:
        """All fields of a hit but Cache-Status, which changes with time."""
        headers = CIMultiDict({**SECURITY, **EMBEDDING})
        headers[hdrs.CONTENT_TYPE] = rendition.media_type
        headers[hdrs.ACCEPT_RANGES] = "bytes"
        headers["ETag"] = f'"{rendition.etag}"'
        self._limit(headers, replace(terms, source_seconds=rendition.max_age_seconds))
        self._group(headers, header_groups(order.groups))
        if rendition.modified is not None:
            headers["Last-Modified"] = caching.http_date(rendition.modified)
        if vary := negotiation.vary(request):
            headers["Vary"] = vary
        # Save-Data needs no asking for.
        if wanted := [field for field in negotiation.hint_fields(request.hints) if field.startswith("Sec-CH-")]:
            headers["Accept-CH"] = ", ".join(wanted)
        if request.attachment is not None:
            headers["Content-Disposition"] = disposition(request, rendition)
        return headers

    def outdate(self, headers: CIMultiDict[str], rendition: Rendition, *, now: int) -> None:
        """For a stale picture: nobody is to keep it for long, nor for longer than it is of use here."""
        useful = caching.STALE_SECONDS if rendition.expires is None else int(rendition.expires) - now
        self._limit(headers, Terms(useful_seconds=useful, source_seconds=rendition.max_age_seconds))

    def build_degraded(
        self, request: ImageRequest, order: RenderRequest, served: ServedRendition, now: int
    ) -> CIMultiDict[str]:
        """Of a picture that is not the one asked for: nobody is to keep it in that one's place for long."""
        rendition = served.rendition
        headers = self.build(request, order, rendition, Terms(useful_seconds=DEGRADED_SECONDS))
        known = hit_status(rendition, now) if served.outcome == "hit" else MADE[served.outcome].removesuffix("; stored")
        headers[CACHE_STATUS] = f"{known}; detail=degraded/{served.level.name.lower()}"
        return headers

    def time(self, headers: CIMultiDict[str], served: ServedRendition, *, seconds: float) -> None:
        """The tier and the stages, for whoever looks for the slow one (Server-Timing)."""
        if tier := served.tier:
            known = headers[CACHE_STATUS].partition("; detail=")
            headers[CACHE_STATUS] = f"{known[0]}; detail={known[2] + '/' if known[2] else ''}{tier}"
        headers[SERVER_TIMING] = ", ".join([f"cache;desc={tier or 'miss'}", *_stages(served), _lap("total", seconds)])

    def _limit(self, headers: CIMultiDict[str], terms: Terms) -> None:
        headers[hdrs.CACHE_CONTROL] = caching.cache_control(self._settings, terms)
        cdn = caching.cdn_cache_control(self._settings, terms)
        if cdn is not None:
            headers[CDN_CACHE_CONTROL] = cdn

    def _group(self, headers: CIMultiDict[str], groups: tuple[str, ...]) -> None:
        """RFC 9875, and the same in the words of Fastly and of Cloudflare."""
        headers["Cache-Groups"] = ", ".join(f'"{group}"' for group in groups)
        if self._settings.surrogate_key:
            headers["Surrogate-Key"] = " ".join(groups)
        if self._settings.cache_tag:
            headers["Cache-Tag"] = ",".join(groups)


def hit_status(rendition: Rendition, now: int) -> str:
    """Cache-Status of a hit (RFC 9211); `ttl` is how long it is still fresh, in whole seconds."""
    if rendition.fresh_until is None:
        return "imgserver; hit"
    return f"imgserver; hit; ttl={int(rendition.fresh_until) - now}"


def stale_status(rendition: Rendition, now: int) -> str:
    """Past its time, or its original has changed: either way it has no time left."""
    past = 0 if rendition.fresh_until is None else min(0, int(rendition.fresh_until) - now)
    return f"imgserver; hit; ttl={past}; detail=stale"


def _stages(served: ServedRendition) -> list[str]:
    """Of what was made for this request; who joined another's render waited for the same stages."""
    stages = served.rendition.stages if not served.tier else None
    if stages is None:
        return []
    return [
        _lap("queue", stages.queue_seconds),
        _lap("fetch", stages.fetch_seconds),
        _lap("decode", stages.decode_seconds),
        _lap("transform", stages.transform_seconds),
        _lap("encode", stages.encode_seconds),
    ]


def _lap(name: str, seconds: float) -> str:
    return f"{name};dur={seconds * 1000:.3f}"


def disposition(request: ImageRequest, rendition: Rendition) -> str:
    """Content-Disposition for `fl_attachment`: the name asked for, or the source's, with the format's own suffix.

    Non-ASCII names go in the extended form (RFC 8187) beside an ASCII fallback.
    """
    stem = request.attachment or PurePosixPath(request.ref.path).stem
    name = stem + suffix_of(rendition.media_type)
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


def suffix_of(media_type: str) -> str:
    row = format_of_media_type(media_type)
    return row.suffix if row else ""
