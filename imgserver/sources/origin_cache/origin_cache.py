"""The origin cache: local copies of an origin's originals, so that all renditions of one come from one download.

A copy is fresh for the lifetime that its origin states, within the bounds of the settings. Then it is stale: for a
while it is used and revalidated in the background; after that a request is sent first, and the copy is used only if
the origin fails. Requests for an original with a copy are conditional.

The fingerprint is made of the validators, so that a request for the metadata gives the same fingerprint as a download.
If an origin has no validators, it is the digest of the bytes, and the original is downloaded where metadata would do.
"""

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from imgserver.errors import BrokenImage, ImgserverError, NotFound, Unavailable
from imgserver.plan.rendition import Fingerprint, Original
from imgserver.runtime.background import BackgroundRefresh, OnTaskFailure, log_task_failure
from imgserver.runtime.files import worker_path
from imgserver.sources.config import FetchSettings
from imgserver.sources.origin import Origin
from imgserver.sources.origin_cache.fetch_queue import FetchEvent, FetchKind, FetchQueue
from imgserver.sources.origin_cache.fetcher import ORIGIN_FAILURES, OriginFetcher
from imgserver.sources.origin_cache.freshness import Freshness
from imgserver.sources.origin_cache.local_copies import LocalCopies
from imgserver.sources.origin_cache.metadata import OriginMetadata
from imgserver.sources.origin_cache.settings import OriginCacheSettings, OriginCacheStatistics
from imgserver.sources.source import Source
from imgserver.sources.undecodable import does_not_decode, mark_young

# A copy may be evicted or replaced between the read of its metadata and the opening of its bytes.
OPEN_ATTEMPTS = 3


def ignore_event(_: FetchEvent) -> None:
    """For a cache without metrics."""


class OriginCache(Source):
    """A source in front of one origin, which it owns. Use from one event loop.

    `identity` distinguishes the origin from another one that used the same folder before. `timeout_seconds` bounds one
    original with its wait in the queue. `clock` gives seconds of the epoch, which are meaningful after a restart.
    """

    def __init__(
        self,
        origin: Origin,
        settings: OriginCacheSettings,
        *,
        name: str = "",
        identity: str = "",
        timeout_seconds: float = FetchSettings().total_timeout_seconds,
        observe: Callable[[FetchEvent], None] = ignore_event,
        on_task_failure: OnTaskFailure = log_task_failure,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._origin = origin
        self._settings = settings
        self._name = name
        self._clock = clock
        self._copies = LocalCopies(settings, name=name, identity=identity, on_task_failure=on_task_failure)
        self._queue = FetchQueue(
            name,
            max_concurrent=settings.max_concurrent,
            max_waiting=settings.max_waiting,
            timeout_seconds=timeout_seconds,
            observe=observe,
        )
        self._fetcher = OriginFetcher(origin, self._copies, self._queue, settings, clock=clock)
        self._background = BackgroundRefresh(on_failure=on_task_failure)
        # Opened originals, and those of them that shared caches may not store.
        self._users: Counter[str] = Counter()
        self._unshared: set[str] = set()
        self._hits = 0

    def __repr__(self) -> str:
        store = self._copies.store
        size = f"{store.entries} entries, {store.size_bytes}/{self._settings.limit_bytes} bytes"
        return f"<OriginCache {self._name or 'unnamed'}: {size}, {self._queue}>"

    async def start(self) -> None:
        """As in `Source`. A folder that cannot be used is logged, and only downloads fail."""
        await self._copies.start()

    async def scanned(self) -> None:
        """Returns when the copies of the last run are counted."""
        await self._copies.scanned()

    async def close(self) -> None:
        await self._background.close()
        await self._fetcher.close()
        await self._origin.close()
        await self._copies.close()

    async def fetch(self, path: str) -> None:
        await self._current(path, await self._copies.find(path), "fetch")

    @asynccontextmanager
    async def open(self, path: str) -> AsyncIterator[Original]:
        with self._copies.pin(path), self._in_use(path):
            metadata, descriptor, head = await self._open(path)
            if not metadata.cache_policy.allows_shared_caches:
                self._unshared.add(path)
            try:
                yield self._original(metadata, descriptor, head)
            except ImgserverError as error:
                if does_not_decode(error):
                    await self._reject(error, path, metadata, descriptor)
                raise
            else:
                self._fetcher.rejections.drop(path)
            finally:
                os.close(descriptor)

    @contextmanager
    def _in_use(self, path: str) -> Iterator[None]:
        """The last user deletes an original that shared caches may not store."""
        self._users[path] += 1
        try:
            yield
        finally:
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path]
                if path in self._unshared:
                    self._unshared.remove(path)
                    self._copies.remove_soon(path)

    async def fingerprint(self, path: str) -> Fingerprint:
        """As in `Source`. Does not wait for the origin while a fresh or stale copy, or fresh metadata, is there."""
        copy = await self._copies.find(path)
        if copy is not None:
            return (await self._current(path, copy, "fetch")).fingerprint
        return (await self._current(path, self._fetcher.metadata(path), "stat")).fingerprint

    async def listing(self, limit: int) -> list[str]:
        return await self._origin.listing(limit)

    async def store(self, path: str, body: bytes, *, replace: bool = False) -> None:
        await self._origin.store(path, body, replace=replace)
        await self.forget(path)

    async def forget(self, path: str) -> None:
        self._fetcher.forget(path)
        await self._copies.remove(path)

    def invalidate(self, matches: Callable[[str], bool]) -> None:
        self._fetcher.forget_all()
        self._copies.invalidate(matches, now=self._clock())

    async def sweep(self) -> None:
        await self._copies.sweep()

    async def check(self) -> None:
        await self._origin.check()

    def statistics(self) -> OriginCacheStatistics:
        store, fetcher, queue = self._copies.store, self._fetcher, self._queue
        return OriginCacheStatistics(
            entries=store.entries,
            bytes=store.size_bytes,
            limit_bytes=self._settings.limit_bytes,
            hits=self._hits,
            fetches=fetcher.fetches,
            revalidations=fetcher.revalidations,
            stat_requests=fetcher.stat_requests,
            coalesced=fetcher.coalesced,
            failures=queue.failures,
            refused=queue.refused,
            waiting=queue.waiting,
            fetching=queue.fetching,
            evictions=store.evictions,
            corrupt=store.corrupt,
        )

    async def _open(self, path: str) -> tuple[OriginMetadata, int, bytes]:
        for attempt in range(OPEN_ATTEMPTS):
            copy = await self._copies.find(path)
            metadata = await self._current(path, copy, "fetch")
            self._hits += attempt == 0 and metadata is copy
            opened = await self._copies.open(metadata)
            if opened is not None:
                return metadata, *opened
        raise Unavailable("The copy of the original was evicted", reason="origin_cache", retry_after=1)

    async def _reject(self, error: ImgserverError, path: str, copy: OriginMetadata, descriptor: int) -> None:
        """For a copy that does not decode: it is downloaded again after a pause. Raises Unavailable if it cannot be
        read or may be incomplete."""
        if isinstance(error, BrokenImage):
            await self._copies.check_readable(path, copy, descriptor)
        rejections, now = self._fetcher.rejections, self._clock()
        rejection = rejections.add(path, copy, now=now)
        rejections.refuse_unfinished(path, copy, now=now)
        mark_young(error, rejection.age_seconds(now))

    async def _current(self, path: str, known: OriginMetadata | None, kind: FetchKind) -> OriginMetadata:
        """`known` if its freshness allows that, otherwise the result of a request to the origin."""
        if known is None and self._fetcher.is_absent(path):
            raise NotFound()
        freshness = self._fetcher.freshness(path, known)
        if known is not None and freshness is Freshness.FRESH:
            self._fetcher.rejections.refuse_unfinished(path, known, now=self._clock())
        failed = self._fetcher.has_failed(path)
        if freshness is not Freshness.FRESH and not failed and (known is not None or kind == "stat"):
            # In a task of its own: a client gives up after a short time, and would cancel a slow response each time.
            await self._background.start(f"{kind} {path}", lambda: self._fetcher.run(kind, path))
        usable = freshness in (Freshness.FRESH, Freshness.STALE) or (failed and freshness is Freshness.STALE_IF_ERROR)
        if known is not None and usable:
            return known
        if kind == "stat" and failed:
            retry_after = max(1, round(self._settings.retry_delay_seconds))
            raise Unavailable("The source has just failed", reason="origin", retry_after=retry_after)
        try:
            return await self._fetcher.wait(kind, path)
        except ORIGIN_FAILURES:
            if known is None or freshness is not Freshness.STALE_IF_ERROR:
                raise
            return known

    def _original(self, metadata: OriginMetadata, descriptor: int, head: bytes) -> Original:
        assert metadata.body is not None
        return Original(
            path=worker_path(descriptor, self._copies.path(metadata)),
            head=head,
            fingerprint=metadata.fingerprint,
            size_bytes=metadata.body.length,
            modified=metadata.validators.modified,
            max_age_seconds=metadata.max_age_seconds,
            cache_policy=metadata.cache_policy,
        )
