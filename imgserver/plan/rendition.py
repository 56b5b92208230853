"""Originals and renditions, as values."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from imgserver.plan.plan import Dims

# Identifies one state of an original: for a file its size, time and inode, for a download its validators. Equal
# fingerprints mean equal bytes. Only the source reads the text.
Fingerprint = NewType("Fingerprint", str)


class CachePolicy(StrEnum):
    """What the origin of an original allows caches to do with it, and so with its renditions (RFC 9111, 5.2.2)."""

    SHARED = "shared"
    """Every cache may store it, and use it stale while the origin fails."""
    MUST_REVALIDATE = "must-revalidate"
    """Every cache may store it; no cache may use it stale."""
    PRIVATE = "private"
    """Only the cache of one client may store it."""
    NO_STORE = "no-store"
    """No cache may store it."""

    @property
    def allows_shared_caches(self) -> bool:
        return self in (CachePolicy.SHARED, CachePolicy.MUST_REVALIDATE)


@dataclass(frozen=True, slots=True)
class Original:
    """An opened original. A worker can read `path` until the source closes it. `head` are its first bytes.

    `modified` is its time in whole seconds of the epoch, `max_age_seconds` how long the source allows it to be cached;
    None: the source does not say.
    """

    path: str
    head: bytes
    fingerprint: Fingerprint
    size_bytes: int
    modified: int | None
    max_age_seconds: int | None = None
    cache_policy: CachePolicy = CachePolicy.SHARED


@dataclass(frozen=True, slots=True)
class Stages:
    """Wall seconds of the stages of a render, from the admission queue to the encoded bytes."""

    queue_seconds: float
    fetch_seconds: float
    decode_seconds: float
    transform_seconds: float
    encode_seconds: float


# The generations of cache groups when the original was opened: (group, token) pairs. An empty token: never purged.
GroupGenerations = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rendition:
    """A rendered result with the data for its HTTP headers. `etag` is a digest of the body, unquoted.

    `created` is in seconds of the epoch, `render_seconds` is the duration of the render. The rendition is fresh until
    `fresh_until`, and must not be used from `expires` on (seconds of the epoch; None: no limit). `max_age_seconds` is
    how long the source allows it to be cached. `stages` are for the requests that waited for it, `source_size` (of one
    page, as stored) is for equal requests; neither is stored.
    """

    body: bytes
    media_type: str
    etag: str
    size: Dims
    source_format: str
    fingerprint: Fingerprint
    modified: int | None
    created: float
    render_seconds: float
    fresh_until: float | None = None
    expires: float | None = None
    max_age_seconds: int | None = None
    cache_policy: CachePolicy = CachePolicy.SHARED
    generations: GroupGenerations = ()
    stages: Stages | None = field(default=None, compare=False)
    source_size: Dims | None = field(default=None, compare=False)
