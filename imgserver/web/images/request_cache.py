"""The request cache: parsed targets with their prepared responses, so that a hit neither parses nor serializes."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import hdrs
from multidict import MultiMapping

from imgserver.dialects import MountedDialects
from imgserver.errors import PreconditionFailed
from imgserver.headers import caching, negotiation, preconditions
from imgserver.headers.field_lines import combined
from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.plan import ImageRequest
from imgserver.plan.rendition import Fingerprint, Rendition
from imgserver.rendering.variants import RenderRequest
from imgserver.runtime.resources import MIB
from imgserver.runtime.ttl_map import BoundedMap
from imgserver.security.remote_url import REMOTE
from imgserver.web.access_log import loggable_target
from imgserver.web.images.responses import serialize
from imgserver.web.middleware import EMBEDDING, SECURITY

# About as many targets as the memory tier holds renditions of 25 kB. The bound is for clients that make up options.
MAX_BYTES: Final = 6 * MIB
# A longer target is parsed for each request.
MAX_TARGET_LENGTH: Final = 512
# A URL that leaves everything to negotiation has up to 72 variants; real clients use a few of them.
MAX_VARIANTS: Final = 8
# Measured with tracemalloc: a parsed target without variants, and a variant with its prepared response.
TARGET_BYTES: Final = 1_300
VARIANT_BYTES: Final = 1_200

# The starts of the heads of all 200 and all 304: the status line, and the header lines that never change.
OK_START: Final = serialize(200, SECURITY | EMBEDDING)
NOT_MODIFIED_START: Final = serialize(304, SECURITY | EMBEDDING)

# What the headers of a rendition depend on: its ETag, the fingerprint of its original, the original's time of
# modification, and the end of its freshness.
HeaderBasis = tuple[str, Fingerprint, int | None, float | None]


@dataclass(slots=True)
class PreparedResponse:
    """One variant of a target: the render request after negotiation, and the responses to a hit.

    `shared_lines` are the header lines of 200 and 304, `content_lines` those of 200 alone, `lifetime_lines` those that
    tell caches how long they may keep the response, `versioned_lines` the same for a query that names `version`, the
    version of the original. `changing_lines` change each second. `event_fields` are those of a hit in the access log.
    All were made from a rendition with `basis` in the second `second` of the epoch; `ResponseHeaders.refresh` keeps
    them up to date.
    """

    render_request: RenderRequest
    basis: HeaderBasis | None = None
    second: int = 0
    version: str = ""
    shared_lines: bytes = b""
    content_lines: bytes = b""
    lifetime_lines: bytes = b""
    versioned_lines: bytes = b""
    changing_lines: bytes = b""
    event_fields: Mapping[str, Any] | None = None

    def select(self, headers: MultiMapping[str], rendition: Rendition, version: str) -> tuple[int, str, bytes, bytes]:
        """Status, outcome, start of the head, and body of the response to a hit: 200, or 304 if the conditional headers
        of the request say that the client has the rendition. `version` is the one that the query names."""
        lifetime = self.versioned_lines if version and version == self.version else self.lifetime_lines
        is_conditional = hdrs.IF_NONE_MATCH in headers or hdrs.IF_MODIFIED_SINCE in headers
        if is_conditional and is_not_modified(headers, rendition):
            return 304, "not_modified", NOT_MODIFIED_START + self.shared_lines + lifetime + self.changing_lines, b""
        start = b"".join((OK_START, self.shared_lines, self.content_lines, lifetime, self.changing_lines))
        return 200, "hit", start, rendition.body


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

    `target` has no query if the dialect ignores it. `guarded`: every request needs a check of the clock or of the
    remote policy before it is answered, also from a cache. `loggable_target` is the target as the access log shows it.
    `vary` is the value of the header Vary.
    """

    target: str
    loggable_target: str
    request: ImageRequest
    guarded: bool
    negotiated: bool
    vary: str
    variants: dict[Hashable, PreparedResponse]

    @property
    def bytes(self) -> int:
        """An estimate of the memory that it takes."""
        return TARGET_BYTES + 2 * len(self.target) + VARIANT_BYTES * len(self.variants)

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


# A parsed target, the prepared response of the variant, the version that the query of the request names, and the target
# of the request as the access log shows it.
FoundResponse = tuple[ParsedRequest, PreparedResponse, str, str]


class RequestCache:
    """Holds parsed targets in MAX_BYTES; the one that was put least recently is evicted first.

    A target is put when it has been answered with an image: what is refused or absent takes no memory. A query that the
    dialect ignores is no part of the key, so clients that make up queries share one entry.
    """

    def __init__(self, dialects: MountedDialects, version_parameter: str) -> None:
        self._dialects = dialects
        self._version_parameter = version_parameter
        self._parsed = BoundedMap[str, ParsedRequest](
            MAX_BYTES // TARGET_BYTES, max_bytes=MAX_BYTES, bytes_of=lambda _, parsed: parsed.bytes
        )

    @property
    def bytes(self) -> int:
        """An estimate of the memory that the entries take."""
        return self._parsed.bytes

    def find(self, target: str, headers: MultiMapping[str]) -> FoundResponse | None:
        """A variant that has been answered before; None if there is none, or if its requests need a check."""
        parsed, version = self._parsed.get(target), ""
        if parsed is not None:
            loggable = parsed.loggable_target
        else:
            parsed, loggable = self._find_without_query(target), loggable_target(target)
            version = self.version_in(target)
        if parsed is None or parsed.guarded:
            return None
        prepared = parsed.get(*parsed.negotiate(headers)) if parsed.vary else parsed.variants.get(())
        return (parsed, prepared, version, loggable) if prepared is not None and prepared.basis is not None else None

    def parse(self, target: str) -> ParsedRequest:
        """The parsed target. Raises the errors of `MountedDialects.parse`."""
        return self._parsed.get(target) or self._find_without_query(target) or self._parse(target)

    def put(self, parsed: ParsedRequest) -> None:
        """To be called when the target has been answered with an image."""
        if len(parsed.target) <= MAX_TARGET_LENGTH:
            self._parsed.put(parsed.target, parsed)

    def version_in(self, target: str) -> str:
        """The version of the original that the query names; "" if it names none."""
        return caching.version_in(target.partition("?")[2], self._version_parameter)

    def clear(self) -> None:
        """To be called when the dialects change: they may refuse a URL that they accepted before."""
        self._parsed.clear()

    def _find_without_query(self, target: str) -> ParsedRequest | None:
        path, question, _ = target.partition("?")
        parsed = self._parsed.get(path) if question else None
        return parsed if parsed is not None and parsed.request.query_ignored else None

    def _parse(self, target: str) -> ParsedRequest:
        request = self._dialects.parse(target)
        target = target.partition("?")[0] if request.query_ignored else target
        return ParsedRequest(
            target,
            loggable_target(target),
            request,
            guarded=request.expires is not None or request.ref.source == REMOTE,
            negotiated=negotiation.is_negotiated(request.plan),
            vary=negotiation.vary(request),
            variants={},
        )


def _variant_key(offers: tuple[str, ...], hints: Hints) -> Hashable:
    # A tuple of strings is hashed faster than hints, which most URLs do not use.
    return offers if hints is NO_HINTS else (offers, hints)
