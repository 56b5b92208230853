"""HTTP to picture and back: GET and HEAD, negotiation, validators, cache fields."""

import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web
from multidict import CIMultiDict, istr

from imgserver import expiry, freshness, negotiation, ranges
from imgserver.admission import Criticality
from imgserver.caches.groups import groups_of
from imgserver.dialects import Dialect
from imgserver.errors import NotFound
from imgserver.formats import FORMATS
from imgserver.freshness import FreshnessSettings
from imgserver.plan import ImageRequest
from imgserver.rendition import Rendition
from imgserver.service import ImageService, Order, Served
from imgserver.web.ledger import Picture
from imgserver.web.middleware import EMBEDDING, NEGOTIATED, SECURITY

# Parsed targets are kept so that a hit does not parse: at most so many, and none longer than this.
REMEMBERED_TARGETS: Final = 8192
REMEMBERED_LENGTH: Final = 512

METHODS = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)
_URGENCY = re.compile(r"(?:^|[,\s])u=([0-7])(?=$|[,;\s])")

CACHE_STATUS = istr("Cache-Status")
# Every field that tells caches how long.
LIFETIMES = (hdrs.CACHE_CONTROL, istr("CDN-Cache-Control"))
STATUS_OF = {
    "hit": "imgserver; hit",
    "stale": "imgserver; hit; detail=stale",
    "joined": "imgserver; fwd=uri-miss; collapsed",
    "rendered": "imgserver; fwd=uri-miss; stored",
}


@dataclass(slots=True)
class Choice:
    """One concrete order of a wish, with the header fields of the rendition it last gave and what these depend on."""

    order: Order
    of: tuple[str, int | None] | None = None
    fields: CIMultiDict[str] = field(default_factory=CIMultiDict)


@dataclass(frozen=True, slots=True)
class Wish:
    """A parsed target, with a choice per negotiated offer (just one for what is not negotiated)."""

    request: ImageRequest
    negotiated: bool
    choices: dict[tuple[str, ...], Choice]


class ImageHandler:
    """Answers `/img/...`. What can be answered from memory never awaits anything."""

    def __init__(self, dialect: Dialect, service: ImageService, settings: FreshnessSettings) -> None:
        self._dialect = dialect
        self._service = service
        self._cache_control = freshness.cache_control(settings)
        self._wishes: OrderedDict[str, Wish] = OrderedDict()

    async def __call__(self, request: web.Request) -> web.Response:
        if request.method == hdrs.METH_OPTIONS:
            return _preflight()
        wish = self._wish(request.raw_path)
        # Asked for every answer: neither a remembered target nor a kept picture knows the time.
        ends = wish.request.expires
        left = None if ends is None else expiry.seconds_left(ends, now=time.time())
        choice = self._choice(wish, request)
        rendition, outcome = self._service.at_hand(choice.order), "hit"
        if rendition is None:
            served = await self._get(wish, choice.order, request)
            rendition, outcome = served.rendition, served.outcome
        if choice.of != (rendition.etag, rendition.modified):
            choice.of, choice.fields = (rendition.etag, rendition.modified), self._fields(wish, rendition)
        fields = choice.fields if left is None else _ending(choice.fields, left)
        return _answer(request, rendition, fields, outcome)

    def _wish(self, target: str) -> Wish:
        wish = self._wishes.get(target)
        if wish is None:
            wish = self._parse(target)
            if len(target) <= REMEMBERED_LENGTH:
                self._remember(target, wish)
        return wish

    def _parse(self, target: str) -> Wish:
        request = self._dialect.parse(target)
        return Wish(request, negotiation.is_negotiated(request.plan), {})

    def _remember(self, target: str, wish: Wish) -> None:
        self._wishes[target] = wish
        if len(self._wishes) > REMEMBERED_TARGETS:
            self._wishes.popitem(last=False)

    def _choice(self, wish: Wish, request: web.Request) -> Choice:
        offers: tuple[str, ...] = ()
        if wish.negotiated:
            request[NEGOTIATED] = True
            offers = negotiation.offers(request.headers.get(hdrs.ACCEPT))
        choice = wish.choices.get(offers)
        if choice is None:
            choice = wish.choices[offers] = Choice(self._service.edition.order(wish.request, offers))
        return choice

    async def _get(self, wish: Wish, order: Order, request: web.Request) -> Served:
        try:
            return await self._service.get(order, criticality_of(request))
        except NotFound as error:
            if wish.request.mistaken is None:
                raise
            raise NotFound(f"{error.detail}; {wish.request.mistaken}") from error

    def _fields(self, wish: Wish, rendition: Rendition) -> CIMultiDict[str]:
        headers = CIMultiDict({**SECURITY, **EMBEDDING})
        headers[hdrs.CONTENT_TYPE] = rendition.media_type
        headers[CACHE_STATUS] = STATUS_OF["hit"]
        headers[hdrs.ACCEPT_RANGES] = "bytes"
        headers["Cache-Groups"] = ", ".join(f'"{group}"' for group in groups_of(wish.request.ref))
        headers["ETag"] = f'"{rendition.etag}"'
        headers["Cache-Control"] = self._cache_control
        if rendition.modified is not None:
            headers["Last-Modified"] = freshness.http_date(rendition.modified)
        if wish.negotiated:
            headers["Vary"] = "Accept"
        if wish.request.attachment is not None:
            headers["Content-Disposition"] = disposition(wish.request, rendition)
        return headers


def _ending(fields: CIMultiDict[str], seconds: int) -> CIMultiDict[str]:
    """No copy outlives the link."""
    bounded = fields.copy()
    for name in LIFETIMES:
        if name in bounded:
            bounded[name] = expiry.bounded(bounded[name], seconds=seconds)
    return bounded


def _answer(request: web.Request, rendition: Rendition, fields: CIMultiDict[str], outcome: str) -> Picture:
    """`fields` are those of a hit, dressed once and copied per answer."""
    headers = fields.copy()
    if outcome != "hit":
        headers[CACHE_STATUS] = STATUS_OF[outcome]
    asked = request.headers
    none_match, modified_since = asked.get(hdrs.IF_NONE_MATCH), asked.get(hdrs.IF_MODIFIED_SINCE)
    if (none_match or modified_since) and freshness.is_not_modified(
        none_match=none_match, modified_since=modified_since, etag=rendition.etag, modified=rendition.modified
    ):
        del headers[hdrs.CONTENT_TYPE]
        return _picture("not_modified", headers, b"", status=304)
    if hdrs.RANGE in asked and request.method == hdrs.METH_GET:
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
        del headers[hdrs.CONTENT_TYPE]
        return _picture("refused", headers, b"", status=416)
    return _picture(outcome, headers, rendition.body[span.start : span.stop], status=206)


def _picture(outcome: str, headers: CIMultiDict[str], body: bytes, *, status: int = 200) -> Picture:
    picture = Picture(status=status, headers=headers, body=body if status != 304 else None)
    picture.outcome, picture.length = outcome, len(body)
    return picture


def _preflight() -> web.Response:
    """The answer to OPTIONS: anybody may embed pictures, and ask again tomorrow (Fetch, CORS preflight)."""
    headers = {
        "Allow": ", ".join(METHODS),
        "Access-Control-Allow-Methods": ", ".join(METHODS),
        "Access-Control-Allow-Headers": "*",
        "Access-Control-Max-Age": "86400",
        "Cache-Control": "max-age=86400",
    }
    return web.Response(status=204, headers=headers)


def criticality_of(request: web.Request) -> Criticality:
    """Hints only (RFC 9218; Sec-Purpose): they decide who is shed first, never what is answered."""
    if request.headers.get("Sec-Purpose", "").startswith("prefetch"):
        return Criticality.LOW
    urgency = _URGENCY.search(request.headers.get("Priority", ""))
    if urgency is None or urgency[1] == "3":
        return Criticality.NORMAL
    return Criticality.URGENT if urgency[1] < "3" else Criticality.LOW


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
    return next((row.suffix for row in FORMATS.values() if row.media_type == media_type), "")
