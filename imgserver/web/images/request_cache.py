"""Targets that were parsed, remembered with what they came to, so that a hit does not parse."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDict

from imgserver.dialects import MountedDialects
from imgserver.headers import caching, negotiation
from imgserver.headers.caching import Terms
from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.plan import ImageRequest
from imgserver.rendering.variants import RenderRequest
from imgserver.security.remote_url import REMOTE

# Parsed targets are kept, at most so many, and none longer than this.
REMEMBERED_TARGETS: Final = 8192
REMEMBERED_LENGTH: Final = 512
# A URL that leaves all to the client has 72 variants; real visitors bring a handful.
REMEMBERED_CHOICES: Final = 8


@dataclass(slots=True)
class PreparedResponse:
    """One concrete order of a parsed request, with the headers of its last rendition and what these depend on.

    `head` and `unmodified` are the fields spelled for 200 and 304, but for Cache-Status: that is in `passing`, the
    fields of the second of the epoch that is in `second`.
    """

    order: RenderRequest
    of: tuple[str, int | None, float | None] | None = None
    fields: CIMultiDict[str] = field(default_factory=CIMultiDict)
    head: bytes = b""
    unmodified: bytes = b""
    second: int = 0
    passing: bytes = b""


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed target, with a prepared response per offer and hints (just one where nothing varies).

    `guarded`: whether it may be answered is asked each time; neither a remembered target nor a kept picture knows.
    """

    target: str
    request: ImageRequest
    guarded: bool
    negotiated: bool
    vary: str
    terms: Terms
    prepared: dict[Hashable, PreparedResponse]

    def told(self, headers: Mapping[str, str]) -> tuple[tuple[str, ...], Hints]:
        """What of a request's fields the answer depends on: its offers and hints."""
        if not self.vary:
            return (), NO_HINTS
        offers = negotiation.offers(headers.get(hdrs.ACCEPT)) if self.negotiated else ()
        hints = negotiation.read_hints(headers, self.request.hints) if self.request.hints else NO_HINTS
        return offers, hints

    def chosen(self, offers: tuple[str, ...], hints: Hints) -> PreparedResponse | None:
        """What was made of these before."""
        return self.prepared.get(_key(offers, hints))

    def choose(self, offers: tuple[str, ...], hints: Hints, order: RenderRequest) -> PreparedResponse:
        if len(self.prepared) >= REMEMBERED_CHOICES:
            self.prepared.clear()
        prepared = self.prepared[_key(offers, hints)] = PreparedResponse(order)
        return prepared


class RequestCache:
    """The most recent ones, by target."""

    def __init__(self, dialects: MountedDialects, version_parameter: str) -> None:
        self._dialects = dialects
        self._version_parameter = version_parameter
        self._known: OrderedDict[str, ParsedRequest] = OrderedDict()

    def recall(self, target: str, headers: Mapping[str, str]) -> tuple[ParsedRequest, PreparedResponse] | None:
        """Of what was answered before, as long as nobody has to be asked whether it may be answered again."""
        parsed = self._known.get(target)
        if parsed is None or parsed.guarded:
            return None
        prepared = parsed.chosen(*parsed.told(headers)) if parsed.vary else parsed.prepared.get(())
        return (parsed, prepared) if prepared is not None and prepared.of is not None else None

    def of(self, target: str) -> ParsedRequest:
        """Raises what the dialect raises for a target that it does not read."""
        parsed = self._known.get(target)
        if parsed is None:
            parsed = self._parse(target)
            if len(target) <= REMEMBERED_LENGTH:
                self._remember(parsed)
        return parsed

    def forget(self) -> None:
        """Once the dialects read targets otherwise: a URL that they refuse by now must not be answered."""
        self._known.clear()

    def _parse(self, target: str) -> ParsedRequest:
        request = self._dialects.parse(target)
        return ParsedRequest(
            target,
            request,
            guarded=request.expires is not None or request.ref.source == REMOTE,
            negotiated=negotiation.is_negotiated(request.plan),
            vary=negotiation.vary(request),
            terms=Terms(versioned=caching.is_versioned(target, self._version_parameter)),
            prepared={},
        )

    def _remember(self, parsed: ParsedRequest) -> None:
        self._known[parsed.target] = parsed
        if len(self._known) > REMEMBERED_TARGETS:
            self._known.popitem(last=False)


def _key(offers: tuple[str, ...], hints: Hints) -> Hashable:
    # Tuples of words are found faster than hints, which most URLs do not ask for.
    return offers if hints is NO_HINTS else (offers, hints)
