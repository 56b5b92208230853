"""Origins: where originals are downloaded from. An `OriginCache` in front makes one a `Source`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

# Takes the body in order, chunk by chunk. What it raises (a byte cap) ends the download and passes through.
BodySink = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Validators:
    """What an origin tells one state of a file from another by. `modified` is in whole seconds of the epoch."""

    etag: str | None = None
    modified: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class OriginResponse:
    """What came with an answer. `max_age_seconds`: how long the origin says it may be kept; None: it does not say."""

    validators: Validators
    max_age_seconds: int | None = None


class Origin(Protocol):
    """Neither keeps anything nor decides who may ask: its spool bounds what is asked of it at once.

    Both raise NotFound; SourceDenied (by the address policy, a redirect included); SourceFailed (it answered 5xx, was
    reset, or sent less than it promised); DeadlineExceeded (one of its own time-outs); Unavailable (no sockets left).
    Transient failures are tried again inside, a bounded number of times. Paths arrive as in `Source`.
    """

    async def fetch(self, path: str, sink: BodySink, *, known: Validators | None = None) -> OriginResponse | None:
        """The whole body into `sink`. None: unchanged since `known`, and nothing was written.

        A new attempt after a failure in the middle never writes twice: it fails instead, or goes on where it was.
        """
        ...

    async def stat(self, path: str) -> OriginResponse:
        """What `fetch` would tell, without the body; validators may all be None where an origin tells none."""
        ...

    async def close(self) -> None: ...
