"""What a source gives and what a render makes: originals and renditions, as values."""

from dataclasses import dataclass, field
from typing import NewType

from imgserver.plan.plan import Dims

# Tells one state of an original from another, in words of its source: of a file its size, time and inode, of a
# download its validators. Equal texts, equal bytes; nobody but the source reads it.
Fingerprint = NewType("Fingerprint", str)


@dataclass(frozen=True, slots=True)
class Original:
    """An opened source picture. `path` can be read by a worker until the source closes it; `head` is its first bytes.

    `size_bytes` is its length. `modified` is the source's own time in whole seconds of the epoch, and `max_age_seconds`
    how long its own answer may be kept; None when it tells none.
    """

    path: str
    head: bytes
    fingerprint: Fingerprint
    size_bytes: int
    modified: int | None
    max_age_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Stages:
    """Wall seconds of what was done for a picture, from its turn to its bytes."""

    queue_seconds: float
    fetch_seconds: float
    decode_seconds: float
    transform_seconds: float
    encode_seconds: float


# Purge generations as they were when the original was opened: (group, token) pairs; the empty token is "never purged".
GroupGenerations = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rendition:
    """A finished body with what HTTP must say about it. `etag` is a digest of the body, unquoted.

    `created` is wall-clock seconds of the epoch; `render_seconds` is what making it cost. It is fresh before
    `fresh_until` and of no use to anybody from `expires` on (both of the same clock; None is no bound).
    `max_age_seconds` is the source's own word on how long it may be kept.
    `stages` are for whoever waited for it; no record keeps them.
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
    generations: GroupGenerations = ()
    stages: Stages | None = field(default=None, compare=False)
