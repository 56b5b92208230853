"""The request cache: parsed targets with their prepared responses, so that a hit neither parses nor serializes."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDict, MultiMapping

from imgserver.dialects import MountedDialects
from imgserver.errors import PreconditionFailed
from imgserver.headers import caching, negotiation, preconditions
from imgserver.headers.field_lines import combined
from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.plan import ImageRequest
from imgserver.plan.rendition import Fingerprint, Rendition
from imgserver.rendering.variants import RenderRequest
from imgserver.runtime.ttl_map import BoundedMap
from imgserver.security.remote_url import REMOTE
from imgserver.web.access_log import loggable_target

MAX_TARGETS: Final = 8192
# A longer target is parsed for each request.
MAX_TARGET_LENGTH: Final = 512
# A URL that leaves everything to negotiation has up to 72 variants; real clients use a few of them.
MAX_VARIANTS: Final = 8

# What the headers of a rendition depend on: its ETag, the fingerprint of its original, the original's time of
# modification, and the end of its freshness.
HeaderBasis = tuple[str, Fingerprint, int | None, float | None]


@dataclass(slots=True)
class PreparedResponse:
    """One variant of a target: the render request after negotiation, and the responses to a hit.

    `headers` are those of a hit. `ok_start` and `not_modified_start` are the serialized starts of 200 and 304; the
    static parts leave out Cache-Status and Date, which change each second. All were made from a rendition with `basis`
    in the second `second` of the epoch; `ResponseHeaders.refresh` keeps them up to date.
    """

    render_request: RenderRequest
    basis: HeaderBasis | None = None
    second: int = 0
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    ok_static: bytes = b""
    not_modified_static: bytes = b""
    ok_start: bytes = b""
    not_modified_start: bytes = b""

    def select(self, headers: MultiMapping[str], rendition: Rendition) -> tuple[int, str, bytes, bytes]:
        """Status, outcome, start of the head, and body of the response to a hit: 200, or 304 if the conditional headers
        of the request say that the client has the rendition."""
        is_conditional = hdrs.IF_NONE_MATCH in headers or hdrs.IF_MODIFIED_SINCE in headers
        if is_conditional and is_not_modified(headers, rendition):
            return 304, "not_modified", self.not_modified_start, b""
        return 200, "hit", self.ok_start, rendition.body


def is_plain(headers: MultiMapping[str]) -> bool:
    """Whether `PreparedResponse.select` can answer: it knows neither ranges nor the preconditions of 412."""
    return not (hdrs.RANGE in headers or hdrs.IF_MATCH in headers or hdrs.IF_UNMODIFIED_SINCE in headers)


def is_not_modified(headers: MultiMapping[str], rendition: Rendition) -> bool:
    """Whether the conditional headers of a request say that the client has this rendition."""
    none_match, modified_since = combined(headers, hdrs.IF_NONE_MATCH), combined(headers, hdrs.IF_MODIFIED_SINCE)
    return bool(none_match or modified_since) and preconditions.is_not_modified(
        none_match=none_match, modified_since=modified_since, etag=rendition.etag, modified=rendition.modified
    )


def check_preconditions(headers: MultiMapping[str], rendition: Rendition) -> None:
    """Raises PreconditionFailed if the request is for another state of the rendition."""
    match, unmodified_since = combined(headers, hdrs.IF_MATCH), combined(headers, hdrs.IF_UNMODIFIED_SINCE)
    if match is None and unmodified_since is None:
        return
    if preconditions.is_failed(
        match=match, unmodified_since=unmodified_since, etag=rendition.etag, modified=rendition.modified
    ):
        raise PreconditionFailed()


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed target with its variants: one for each offer and hints, or a single one if nothing varies.

    `guarded`: every request needs a check of the clock or of the remote policy before it is answered, also from a
    cache. `loggable_target` is the target as the access log shows it. `vary` is the value of the header Vary.
    `version` is the version of the original that the query names, "" if it names none.
    """

    target: str
    loggable_target: str
    request: ImageRequest
    guarded: bool
    negotiated: bool
    vary: str
    version: str
    variants: dict[Hashable, PreparedResponse]

    def negotiate(self, headers: MultiMapping[str]) -> tuple[tuple[str, ...], Hints]:
        """The offers and the client hints of a request, as far as the response depends on them."""
        if not self.vary:
            return (), NO_HINTS
        offers = negotiation.offers(combined(headers, hdrs.ACCEPT)) if self.negotiated else ()
        hints = negotiation.read_hints(headers, self.request.hints) if self.request.hints else NO_HINTS
        return offers, hints

    def get(self, offers: tuple[str, ...], hints: Hints) -> PreparedResponse | None:
        return self.variants.get(_variant_key(offers, hints))

    def add(self, offers: tuple[str, ...], hints: Hints, render_request: RenderRequest) -> PreparedResponse:
        if len(self.variants) >= MAX_VARIANTS:
            self.variants.clear()
        prepared = self.variants[_variant_key(offers, hints)] = PreparedResponse(render_request)
        return prepared


class RequestCache:
    """Holds at most MAX_TARGETS parsed targets; the oldest is evicted first."""

    def __init__(self, dialects: MountedDialects, version_parameter: str) -> None:
        self._dialects = dialects
        self._version_parameter = version_parameter
        self._parsed: BoundedMap[str, ParsedRequest] = BoundedMap(MAX_TARGETS)

    def find(self, target: str, headers: MultiMapping[str]) -> tuple[ParsedRequest, PreparedResponse] | None:
        """A variant that has been answered before; None if there is none, or if its requests need a check."""
        parsed = self._parsed.get(target)
        if parsed is None or parsed.guarded:
            return None
        prepared = parsed.get(*parsed.negotiate(headers)) if parsed.vary else parsed.variants.get(())
        return (parsed, prepared) if prepared is not None and prepared.basis is not None else None

    def parse(self, target: str) -> ParsedRequest:
        """The parsed target, cached. Raises the errors of `MountedDialects.parse`."""
        parsed = self._parsed.get(target)
        if parsed is None:
            parsed = self._parse(target)
            if len(target) <= MAX_TARGET_LENGTH:
                self._parsed.put(target, parsed)
        return parsed

    def clear(self) -> None:
        """To be called when the dialects change: they may refuse a URL that they accepted before."""
        self._parsed.clear()

    def _parse(self, target: str) -> ParsedRequest:
        request = self._dialects.parse(target)
        return ParsedRequest(
            target,
            loggable_target(target),
            request,
            guarded=request.expires is not None or request.ref.source == REMOTE,
            negotiated=negotiation.is_negotiated(request.plan),
            vary=negotiation.vary(request),
            version=caching.version_in(target.partition("?")[2], self._version_parameter),
            variants={},
        )


def _variant_key(offers: tuple[str, ...], hints: Hints) -> Hashable:
    # A tuple of strings is hashed faster than hints, which most URLs do not use.
    return offers if hints is NO_HINTS else (offers, hints)
