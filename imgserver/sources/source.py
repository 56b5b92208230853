"""The port of sources."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

from imgserver.errors import DeadlineExceeded, ImageOverLimit, NotFound, SourceDenied, SourceFailed, Unavailable
from imgserver.plan.rendition import Fingerprint, Original
from imgserver.sources.origin_cache.settings import OriginCacheStatistics

# A path that no source has. A source that says so works.
PROBE_PATH = "imgserver-doctor-probe"


# What a source raises for a path.
LOCAL_ERRORS = (NotFound, Unavailable)
REMOTE_ERRORS = (*LOCAL_ERRORS, SourceDenied, SourceFailed, DeadlineExceeded, ImageOverLimit)


class Source(ABC):
    """Gives originals as local files. A subclass must have `open` and `fingerprint`; the other methods have defaults
    for a source that is local, read-only and cannot be listed.

    All methods are called between `start` and `close`, `check` excepted, from one event loop. Paths are decoded and
    have no empty or dot segments. Methods that take a path raise

    - NotFound for a path that does not exist, lies outside the source, or is no regular file: the same text for all, so
      that a client learns nothing about files outside,
    - Unavailable when the source cannot be reached or read now, and when the server is closing.

    An origin cache raises besides, from `fetch`, `open` and `fingerprint` (REMOTE_ERRORS),

    - SourceDenied: the SSRF policy forbids the URL, or the target of a redirect,
    - SourceFailed: the origin answered with an error, or sent an incomplete or malformed body,
    - DeadlineExceeded: the origin took too long,
    - ImageOverLimit: the original is larger than the limit of the cache.

    Its Unavailable has one of the reasons `origin` (too many clients wait, or the origin has just failed),
    `origin_cache` (no space), `disk` (the disk of the cache fails), `unfinished` (the original may be incomplete) and
    `drain`. `forget` and `sweep` raise Unavailable if the disk fails.
    """

    # Empty methods are defaults here, not forgotten ones.
    async def start(self) -> None:  # noqa: B027
        """Called once before the first request. Raises ServerFault if the source cannot work."""

    async def close(self) -> None:  # noqa: B027
        """Called once at the end, also without `start`."""

    async def fetch(self, path: str) -> None:  # noqa: B027
        """Makes the original local and returns when `open` need not wait for a remote origin; returns immediately if it
        is local already.

        The caller holds nothing that other requests need, so it may wait here. The source bounds how many callers wait
        and raises Unavailable for further ones.
        """

    @abstractmethod
    def open(self, path: str) -> AbstractAsyncContextManager[Original]:
        """The original, which a worker can read by `Original.path` inside the `async with`. Raises Unavailable at the
        end of the block if the file was overwritten while it was open.

        An ImgserverError that says that the original does not decode passes through the source. It raises Unavailable
        instead if the bytes could not be read or may be incomplete, and adds the fact `young` if they may soon be
        others (see `undecodable.py`).
        """

    async def head(self, path: str) -> bytes | None:  # noqa: ARG002
        """The first HEAD_BYTES of an original that is local; None for one that might have to be fetched."""
        return None

    @abstractmethod
    async def fingerprint(self, path: str) -> Fingerprint:
        """The state of the original, without its bytes: equal to `Original.fingerprint` of `open` as long as it is
        unchanged."""

    async def identity(self, path: str) -> str:
        """The path that stands for all names of one original or folder, such as symlinks to it: caches, quotas and
        purges know it by that path. Paths that begin with a dot are never returned."""
        return path

    async def listing(self, limit: int) -> list[str]:  # noqa: ARG002
        """The paths of at most `limit` files with names of images, hidden ones excluded; empty if the source cannot be
        listed."""
        return []

    async def store(self, path: str, body: bytes, *, replace: bool = False) -> None:  # noqa: ARG002
        """Writes an original whole or not at all: a reader sees the old file or the new one.

        Raises SourceDenied if the source is read-only, Conflict if the file exists and `replace` is false, NotFound for
        a path that cannot exist, Unavailable if it cannot be written now.
        """
        raise SourceDenied("This source is read-only")

    async def forget(self, path: str) -> None:  # noqa: B027
        """Drops the cached copy of one original, for a purge: the next `open` fetches it again."""

    def invalidate(self, matches: Callable[[str], bool]) -> None:  # noqa: B027
        """Invalidates the cached copies of all matching paths, for a purge: no later call gets them. Returns
        immediately; `sweep` deletes them."""

    async def sweep(self) -> None:  # noqa: B027
        """Deletes what `invalidate` has invalidated."""

    def statistics(self) -> OriginCacheStatistics | None:
        """The state of the origin cache; None for a source without one."""
        return None

    async def check(self) -> None:
        """Returns if the source can serve originals, for `imgserver doctor`. Raises an ImgserverError that says why
        not; needs no `start`."""
        with suppress(NotFound):
            await self.fingerprint(PROBE_PATH)
