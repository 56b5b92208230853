"""What a source gives and what a render makes: originals and renditions, as values."""

from dataclasses import dataclass, field

from imgserver.plan import Dims


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Tells one state of an original from another. A replaced or edited file differs in at least one field."""

    size: int
    modified_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Original:
    """An opened source picture. `path` can be read by a worker until the source closes it; `head` is its first bytes.

    `modified` is the source's own time in whole seconds of the epoch, None when it tells none.
    """

    path: str
    head: bytes
    fingerprint: Fingerprint
    modified: int | None


@dataclass(frozen=True, slots=True)
class Stages:
    """Wall seconds of what was done for a picture, from its turn to its bytes."""

    queue_seconds: float
    fetch_seconds: float
    decode_seconds: float
    transform_seconds: float
    encode_seconds: float


# Purge marks as they were when the original was opened: (group, token) pairs; the empty token is "never purged".
Marks = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rendition:
    """A finished body with what HTTP must say about it. `etag` is a digest of the body, unquoted.

    `created` is wall-clock seconds of the epoch; `render_seconds` is what making it cost. It is fresh before
    `fresh_until` and of no use to anybody from `expires` on (both of the same clock; None is no bound).
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
    marks: Marks = ()
    stages: Stages | None = field(default=None, compare=False)
