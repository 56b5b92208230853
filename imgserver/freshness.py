"""Validators and lifetimes: pure functions of header texts and settings (RFC 9110, 9111, 5861)."""

import math
import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from typing import Annotated, Literal

from annotated_types import Ge

# A record is kept this much longer than it is fresh, so that there is something to serve while the source is away.
KEPT_FACTOR = 2.5
# Records made together must not end together.
JITTER = 0.1

_ENTITY_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


@dataclass(frozen=True, slots=True)
class FreshnessSettings:
    """How long others may keep an answer: `max_age` for everybody, the stale-* grace for caches that know RFC 5861."""

    max_age_seconds: Annotated[int, Ge(0)] = 300
    stale_while_revalidate_seconds: Annotated[int, Ge(0)] = 86_400
    stale_if_error_seconds: Annotated[int, Ge(0)] = 86_400


def cache_control(settings: FreshnessSettings) -> str:
    """The Cache-Control of a picture. No `public` and no `must-revalidate`: the first says nothing, the second forbids
    the stale use that the grace is for."""
    fields = [f"max-age={settings.max_age_seconds}"]
    if settings.stale_while_revalidate_seconds:
        fields.append(f"stale-while-revalidate={settings.stale_while_revalidate_seconds}")
    if settings.stale_if_error_seconds:
        fields.append(f"stale-if-error={settings.stale_if_error_seconds}")
    return ", ".join(fields)


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


def age_class(*, now: float, fresh_until: float | None, expires: float | None) -> Literal["fresh", "stale", "expired"]:
    """What a record is good for. A clock that was set back makes a record fresh for longer, never negative."""
    if expires is not None and now >= expires:
        return "expired"
    return "stale" if fresh_until is not None and now >= fresh_until else "fresh"


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
    return field.strip() == "*" or etag in _ENTITY_TAG.findall(field)


def _epoch(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
