"""How long a copy of an original may be used after its last validation (RFC 9111, RFC 5861)."""

from enum import Enum

from imgserver.plan.rendition import CachePolicy
from imgserver.sources.origin_cache.metadata import OriginMetadata
from imgserver.sources.origin_cache.settings import OriginCacheSettings

# An original that shared caches may not store is deleted after the renders that use it. They may wait for a worker so
# long.
UNSHARED_SECONDS = 10.0


class Freshness(Enum):
    FRESH = "fresh"
    """Used without a request to the origin."""
    STALE = "stale"
    """Used immediately, and revalidated in the background (stale-while-revalidate)."""
    STALE_IF_ERROR = "stale-if-error"
    """Used only if the origin fails to answer a new request."""
    EXPIRED = "expired"
    """Not used."""


def freshness_of(metadata: OriginMetadata, settings: OriginCacheSettings, *, now: float) -> Freshness:
    """`now` is in seconds of the epoch, of the same clock as `metadata.validated`."""
    if not metadata.cache_policy.allows_shared_caches:
        is_new = 0 <= now - metadata.validated < UNSHARED_SECONDS
        return Freshness.FRESH if is_new else Freshness.EXPIRED
    stated = settings.default_ttl_seconds if metadata.max_age_seconds is None else metadata.max_age_seconds
    lifetime = min(max(stated, settings.min_ttl_seconds), settings.max_ttl_seconds)
    # A validation in the future means that the clock was set back: the age is unknown.
    stale_seconds = now - metadata.validated - lifetime if now >= metadata.validated else 0.0
    if stale_seconds < 0:
        return Freshness.FRESH
    if metadata.cache_policy is CachePolicy.MUST_REVALIDATE:
        return Freshness.EXPIRED
    # An original that is never fresh is always validated first.
    if metadata.max_age_seconds != 0 and stale_seconds < settings.stale_while_revalidate_seconds:
        return Freshness.STALE
    return Freshness.STALE_IF_ERROR if stale_seconds < settings.stale_if_error_seconds else Freshness.EXPIRED
