"""The port of origins: remote servers from which originals are downloaded."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from imgserver.errors import ImageOverLimit, NotFound, SourceDenied
from imgserver.plan.rendition import CachePolicy
from imgserver.sources.source import PROBE_PATH

# Takes the body chunk by chunk, in order. An exception that it raises ends the download and reaches the caller.
BodySink = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Validators:
    """What distinguishes two states of a file at its origin. `modified` is in whole seconds of the epoch."""

    etag: str | None = None
    modified: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class OriginResponse:
    """The metadata of a response. `max_age_seconds` is its freshness lifetime; None if the origin states none.
    `cache_policy`: what else it demands of caches.
    `complete`: the response stated where its body ends, so that a cut body would have been an error."""

    validators: Validators
    max_age_seconds: int | None = None
    cache_policy: CachePolicy = CachePolicy.SHARED
    complete: bool = field(default=True, compare=False)


class Origin(ABC):
    """A remote server. An `OriginCache` in front of it makes it a `Source`: it stores the originals, bounds the number
    of concurrent requests and decides which errors are retried later. The origin does none of this.

    A subclass must have `fetch` and `stat`. Methods that take a path, which is like those of `Source`, raise NotFound,
    SourceDenied (the SSRF policy forbids the URL or the target of a redirect), SourceFailed (a 5xx response, a reset
    connection, fewer bytes than promised), DeadlineExceeded (a time-out of the origin itself) and Unavailable (no file
    descriptors left). The origin retries transient failures itself, a bounded number of times.
    """

    @abstractmethod
    async def fetch(self, path: str, sink: BodySink, *, known: Validators | None = None) -> OriginResponse | None:
        """Writes the whole body into `sink`. None: the file is unchanged since `known`, and nothing was written.

        No byte is written twice: after a failure in the middle of the body, the origin raises or resumes there.
        """

    @abstractmethod
    async def stat(self, path: str) -> OriginResponse:
        """The response of `fetch` without the body. All validators may be None if the origin states none."""

    async def listing(self, limit: int) -> list[str]:  # noqa: ARG002
        """As in `Source`."""
        return []

    async def store(self, path: str, body: bytes, *, replace: bool = False) -> None:  # noqa: ARG002
        """As in `Source`."""
        raise SourceDenied("This source is read-only")

    async def check(self) -> None:
        """As in `Source`."""
        with suppress(NotFound):
            await self.probe()

    async def probe(self) -> None:
        """Fetches a path that does not exist. A body counts as an answer: some servers have a page for every path.

        It is no `stat`: the body of an error says what is wrong with the credentials. Raises what `fetch` raises.
        """
        with suppress(_AnsweredError):
            await self.fetch(PROBE_PATH, _stop)

    async def close(self) -> None:  # noqa: B027
        """Closes connections. Called once, after the last request has ended."""


def refuse_larger(size_bytes: int | None, limit_bytes: int) -> None:
    """Raises ImageOverLimit for an original that is, or is announced to be, larger than the limit."""
    if size_bytes is not None and size_bytes > limit_bytes:
        raise ImageOverLimit(
            f"source bytes: {size_bytes} is over the limit of {limit_bytes}",
            limit="source bytes",
            value=size_bytes,
            allowed=limit_bytes,
        )


class _AnsweredError(Exception):
    """Ends the download of a body that nobody needs."""


async def _stop(_: bytes) -> None:
    raise _AnsweredError
