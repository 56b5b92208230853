"""Validators and lifetimes: pure functions of header texts and settings (RFC 9110, 9111, 5861, 8246, 9213).

A link that expires also bounds the lifetime of every copy of its picture.
"""

import math
import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from typing import Annotated

from annotated_types import Ge, doc

from imgserver.errors import Expired

# A record is kept this much longer than it is fresh, so that there is something to serve while the source is away.
KEPT_FACTOR = 2.5
# Records made together must not end together.
JITTER = 0.1

YEAR_SECONDS = 31_536_000
# What is stale is being made anew meanwhile: others should soon ask again.
STALE_SECONDS = 10

_PARAMETER = re.compile(r"[A-Za-z0-9._~-]*")
_ENTITY_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


@dataclass(frozen=True, slots=True)
class FreshnessSettings:
    """How long clients, and shared caches that implement RFC 9213 and RFC 5861, may store a response."""

    max_age_seconds: Annotated[int, Ge(0), doc("Cache-Control max-age of renditions")] = 300
    cdn_max_age_seconds: Annotated[
        int, Ge(0), doc("max-age for CDNs only, in CDN-Cache-Control (RFC 9213); 0: not sent")
    ] = 0
    stale_while_revalidate_seconds: Annotated[
        int, Ge(0), doc("how long caches may serve a stale rendition while they revalidate it (RFC 5861)")
    ] = 86_400
    stale_if_error_seconds: Annotated[
        int, Ge(0), doc("how long caches may serve a stale rendition while the server fails (RFC 5861)")
    ] = 86_400
    version_parameter: Annotated[
        str, doc("query parameter of versioned URLs, whose renditions are cached for a year; empty: none")
    ] = "v"

    def __post_init__(self) -> None:
        if not _PARAMETER.fullmatch(self.version_parameter):
            raise ValueError(
                f"http.version_parameter {self.version_parameter!r} has more than letters, digits and ._~-"
            )


@dataclass(frozen=True, slots=True)
class Cacheability:
    """What an answer's lifetimes depend on. `useful_seconds`: None for the picture as it should be; of a stale or
    degraded one, how long it is still of any use. `source_seconds`: how long the source itself says it holds."""

    versioned: bool = False
    useful_seconds: int | None = None
    source_seconds: int | None = None


DEFAULT_CACHEABILITY = Cacheability()


def is_versioned(target: str, parameter: str) -> bool:
    """Whether the target's query has `parameter` with a value: `?v=2`."""
    query = target.partition("?")[2]
    if not query or not parameter:
        return False
    return any(name == parameter and value for name, _, value in (part.partition("=") for part in query.split("&")))


def cache_control(settings: FreshnessSettings, terms: Cacheability = DEFAULT_CACHEABILITY) -> str:
    """The Cache-Control of a picture. No `public` and no `must-revalidate`: the first says nothing, the second forbids
    the stale use that the grace is for."""
    return _directives(settings, terms, settings.max_age_seconds)


def cdn_cache_control(settings: FreshnessSettings, terms: Cacheability = DEFAULT_CACHEABILITY) -> str | None:
    """The same for the CDN alone (RFC 9213), where it is configured."""
    return _directives(settings, terms, settings.cdn_max_age_seconds) if settings.cdn_max_age_seconds else None


def _directives(settings: FreshnessSettings, terms: Cacheability, seconds: int) -> str:
    graces = settings.stale_while_revalidate_seconds, settings.stale_if_error_seconds
    if terms.useful_seconds is not None:
        # Nobody is to keep it for longer than this server would answer it.
        useful = max(0, terms.useful_seconds)
        seconds, graces = min(seconds, STALE_SECONDS, useful), (min(graces[0], useful), min(graces[1], useful))
    elif terms.versioned:
        seconds = max(seconds, YEAR_SECONDS)
    if terms.source_seconds is not None:
        seconds = min(seconds, terms.source_seconds)
    if seconds >= YEAR_SECONDS and terms.versioned:
        return f"max-age={seconds}, immutable"
    named = zip(("stale-while-revalidate", "stale-if-error"), graces, strict=True)
    return ", ".join([f"max-age={seconds}", *(f"{name}={grace}" for name, grace in named if grace)])


def error_cache_control(cache_seconds: int) -> str:
    return f"max-age={cache_seconds}" if cache_seconds else "no-store"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Fresh before `fresh_until`, of some use before `expires`; seconds of the epoch."""

    fresh_until: float
    expires: float


def lifetime(*, created: float, soft_seconds: float, draw: float) -> Lifetime:
    """The two ends of a record made at `created`. `draw` is a random number in [0, 1]: both ends move by ±10 %."""
    seconds = soft_seconds * jittered(draw)
    return Lifetime(fresh_until=created + seconds, expires=created + KEPT_FACTOR * seconds)


def jittered(draw: float) -> float:
    """The factor 1 ±10 % for a random number in [0, 1]."""
    return 1 + JITTER * (2 * draw - 1)


# -ln of the smallest draw: a renewal is early by at most so many times what the render took.
SMALLEST_DRAW = 1e-12
EARLIEST_RENDERS = -math.log(SMALLEST_DRAW)


def is_early(*, now: float, fresh_until: float | None, render_seconds: float, draw: float) -> bool:
    """Whether this request should refresh the record although it is fresh: one of many does, shortly before the end.

    XFetch (Vattani et al., 2015): the costlier the render, the earlier. `draw` is a random number in (0, 1].
    """
    if fresh_until is None:
        return False
    return now - render_seconds * math.log(max(draw, SMALLEST_DRAW)) >= fresh_until


def http_date(epoch_seconds: int) -> str:
    return formatdate(epoch_seconds, usegmt=True)


def is_not_modified(*, none_match: str | None, modified_since: str | None, etag: str, modified: int | None) -> bool:
    """Whether a GET or HEAD is answered 304. If-None-Match beats If-Modified-Since; malformed dates count as absent."""
    if none_match is not None:
        return _matches(none_match, etag)
    if modified_since is None or modified is None:
        return False
    since = _epoch(modified_since)
    return since is not None and modified <= since


def _matches(field: str, etag: str) -> bool:
    """Weak comparison (RFC 9110, 8.8.3.2): the opaque parts decide."""
    # Nearly always one tag, ours.
    return field == f'"{etag}"' or field.strip() == "*" or etag in _ENTITY_TAG.findall(field)


def _epoch(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


_LIFETIME = re.compile(r"(max-age|s-maxage|stale-while-revalidate|stale-if-error)=([0-9]+)")
_STALE = ("stale-while-revalidate", "stale-if-error")


def seconds_left(expires: int, *, now: float) -> int:
    """Whole seconds in which the link is good. Raises Expired."""
    if now >= expires:
        raise Expired("this link was good until a moment that is over", reason="expired")
    return int(expires - now)


def bounded(cache_control: str, *, seconds: int) -> str:
    """The field with every lifetime inside the next `seconds`: fresh and stale use together."""
    fresh = min(
        seconds, max((int(age) for name, age in _LIFETIME.findall(cache_control) if name not in _STALE), default=0)
    )

    def bound(found: re.Match[str]) -> str:
        name, age = found[1], int(found[2])
        return f"{name}={min(age, seconds - fresh if name in _STALE else seconds)}"

    # `immutable` tells browsers not to ask again for as long as max-age, so it may stay.
    return _LIFETIME.sub(bound, cache_control)
