"""Validators and lifetimes: pure functions of header texts and settings (RFC 9110, 9111, 5861, 8246, 9213).

The expiry of a signed link also bounds the lifetime of every stored response.
"""

import math
import re
from dataclasses import dataclass
from email.utils import formatdate
from typing import Annotated

from annotated_types import Ge, doc

from imgserver.errors import Expired
from imgserver.plan.rendition import CachePolicy

# A record expires after this multiple of its freshness lifetime, so that a stale rendition can be served while the
# source fails.
EXPIRY_FACTOR = 2.5
# Records that are created together must not expire together.
JITTER = 0.1

YEAR_SECONDS = 31_536_000
# The seconds of the epoch for which HTTP has a date: the years 1 to 9999. A file system may hold other times.
HTTP_DATES = range(-62_135_596_800, 253_402_300_800)
# A stale response is being revalidated, so other caches should request it again soon.
STALE_MAX_AGE_SECONDS = 10

_PARAMETER = re.compile(r"[A-Za-z0-9._~-]*")


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
        str,
        doc("query parameter that names the version of the original, for a lifetime of a year; empty: none"),
    ] = "v"

    def __post_init__(self) -> None:
        if not _PARAMETER.fullmatch(self.version_parameter):
            raise ValueError(
                f"http.version_parameter {self.version_parameter!r} has more than letters, digits and ._~-"
            )


@dataclass(frozen=True, slots=True)
class Cacheability:
    """What the lifetimes of a response depend on.

    `versioned`: the URL changes with its image, and nobody but the owner could have written it before.
    `useful_seconds`: how long a stale or degraded rendition may still be served; None for a fresh, full one.
    `source_seconds`: the max-age that the source gave. `policy`: what else it demands.
    """

    versioned: bool = False
    useful_seconds: int | None = None
    source_seconds: int | None = None
    policy: CachePolicy = CachePolicy.SHARED


DEFAULT_CACHEABILITY = Cacheability()


def version_in(query: str, parameter: str) -> str:
    """The first value of `parameter` in a query such as `v=2`; "" if there is none."""
    if not query or not parameter:
        return ""
    values = (value for name, _, value in (part.partition("=") for part in query.split("&")) if name == parameter)
    return next(filter(None, values), "")


def cache_control(settings: FreshnessSettings, cacheability: Cacheability = DEFAULT_CACHEABILITY) -> str:
    """The Cache-Control of a rendition. Without `public`, which adds nothing, and without `must-revalidate`, which
    forbids to serve stale responses, unless the source demands it."""
    return _directives(settings, cacheability, settings.max_age_seconds)


def cdn_cache_control(settings: FreshnessSettings, cacheability: Cacheability = DEFAULT_CACHEABILITY) -> str | None:
    """CDN-Cache-Control (RFC 9213); None where it is not configured, or a CDN may not store the rendition."""
    if not settings.cdn_max_age_seconds or not cacheability.policy.allows_shared_caches:
        return None
    return _directives(settings, cacheability, settings.cdn_max_age_seconds)


def _directives(settings: FreshnessSettings, cacheability: Cacheability, seconds: int) -> str:
    if cacheability.policy is CachePolicy.NO_STORE:
        return "no-store"
    graces = settings.stale_while_revalidate_seconds, settings.stale_if_error_seconds
    if cacheability.useful_seconds is not None:
        # No cache may serve it for longer than this server would.
        useful = max(0, cacheability.useful_seconds)
        seconds, graces = min(seconds, STALE_MAX_AGE_SECONDS, useful), (min(graces[0], useful), min(graces[1], useful))
    elif cacheability.versioned:
        seconds = max(seconds, YEAR_SECONDS)
    if cacheability.source_seconds is not None:
        seconds = min(seconds, cacheability.source_seconds)
    if cacheability.policy is not CachePolicy.SHARED:
        return _restricted(cacheability.policy, seconds)
    if seconds >= YEAR_SECONDS and cacheability.versioned:
        return f"max-age={seconds}, immutable"
    if cacheability.source_seconds == 0:
        # A source whose originals are never fresh has not allowed anybody to use them stale.
        return "max-age=0"
    revalidate = f", stale-while-revalidate={graces[0]}" if graces[0] else ""
    if_error = f", stale-if-error={graces[1]}" if graces[1] else ""
    return f"max-age={seconds}{revalidate}{if_error}"


def _restricted(policy: CachePolicy, seconds: int) -> str:
    """Without stale-while-revalidate and stale-if-error, which would allow what the source forbids."""
    if policy is CachePolicy.PRIVATE:
        return f"private, max-age={seconds}"
    return f"max-age={seconds}, must-revalidate" if seconds else "no-cache"


def error_cache_control(cache_seconds: int) -> str:
    return f"max-age={cache_seconds}" if cache_seconds else "no-store"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Fresh before `fresh_until`, then stale until `expires`; seconds of the epoch."""

    fresh_until: float
    expires: float


def lifetime(*, created: float, soft_seconds: float, draw: float) -> Lifetime:
    """The lifetime of a record that was created at `created`. `draw`, a random number in [0, 1], moves both times by
    ±10 %."""
    seconds = soft_seconds * jittered(draw)
    return Lifetime(fresh_until=created + seconds, expires=created + EXPIRY_FACTOR * seconds)


def jittered(draw: float) -> float:
    """A factor from 0.9 to 1.1 for a random number in [0, 1]."""
    return 1 + JITTER * (2 * draw - 1)


# A refresh is early by at most this multiple of the render time: -ln of the smallest draw.
SMALLEST_DRAW = 1e-12
EARLIEST_RENDERS = -math.log(SMALLEST_DRAW)


def is_early(*, now: float, fresh_until: float | None, render_seconds: float, draw: float) -> bool:
    """Whether this request should refresh a record that is still fresh: one of many requests does, shortly before
    `fresh_until`.

    XFetch (Vattani et al., 2015): the longer the render takes, the earlier the refresh. `draw` is a random number in
    (0, 1].
    """
    if fresh_until is None:
        return False
    return now - render_seconds * math.log(max(draw, SMALLEST_DRAW)) >= fresh_until


def http_date(epoch_seconds: int) -> str:
    return formatdate(epoch_seconds, usegmt=True)


_LIFETIME = re.compile(r"(max-age|s-maxage|stale-while-revalidate|stale-if-error)=([0-9]+)")
_STALE = ("stale-while-revalidate", "stale-if-error")


def seconds_left(expires: int, *, now: float) -> int:
    """Whole seconds until the link expires. Raises Expired."""
    if now >= expires:
        raise Expired("this link has expired", reason="expired")
    return int(expires - now)


def bounded(cache_control: str, *, seconds: int) -> str:
    """The field with all lifetimes limited to the next `seconds`: max-age alone, and max-age with each stale-*."""
    fresh = min(
        seconds, max((int(age) for name, age in _LIFETIME.findall(cache_control) if name not in _STALE), default=0)
    )

    def bound(found: re.Match[str]) -> str:
        name, age = found[1], int(found[2])
        return f"{name}={min(age, seconds - fresh if name in _STALE else seconds)}"

    # `immutable` holds for max-age only, so it may stay.
    return _LIFETIME.sub(bound, cache_control)
