"""The local copies of one origin's originals, for the event loop: the store is called in threads, and purged copies are
left out."""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TypeVar

from imgserver.errors import NotFound, Unavailable
from imgserver.runtime.background import BackgroundTasks, OnTaskFailure, log_task_failure
from imgserver.runtime.files import check_readable, read_head
from imgserver.runtime.threads import ThreadPool
from imgserver.runtime.ttl_map import TtlMap
from imgserver.sources.origin_cache.download import PartialDownload
from imgserver.sources.origin_cache.invalidation import PendingPurge, PendingPurges, is_purged
from imgserver.sources.origin_cache.metadata import OriginMetadata
from imgserver.sources.origin_cache.settings import OriginCacheSettings
from imgserver.sources.origin_cache.store import OriginStore

THREADS = 4
WARNING_SECONDS = 60.0
# How long `close` waits until the files of interrupted downloads are deleted.
DRAIN_SECONDS = 2.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class LocalCopies:
    """`identity` is part of every key: it distinguishes the origin from another one that used the same folder before.

    If the disk fails, `find` returns None, and all other asynchronous methods raise Unavailable. The failure is logged
    once per WARNING_SECONDS.
    """

    def __init__(
        self,
        settings: OriginCacheSettings,
        *,
        name: str,
        identity: str,
        on_task_failure: OnTaskFailure = log_task_failure,
    ) -> None:
        self.store = OriginStore(settings.path, limit_bytes=settings.limit_bytes)
        self._name = name
        self._prefix = f"{identity or name}\n"
        self._threads = ThreadPool(THREADS, "origin-cache")
        # Scans and sweeps take seconds: they must not keep requests waiting for a thread.
        self._walker = ThreadPool(1, "origin-cache-walk")
        self._scanned = asyncio.Event()
        self._tasks = BackgroundTasks(on_failure=on_task_failure)
        self._purges = PendingPurges()
        self._warned = TtlMap[str, bool](WARNING_SECONDS)

    async def start(self) -> None:
        """Deletes the unfinished downloads of the last run and starts to count the copies. A folder that cannot be used
        is logged: it fails every download, and may come back."""
        try:
            await self._threads.run(self.store.start)
        except OSError as error:
            self._warn(error)
        await self._tasks.start("origin_cache_scan", self._scan)

    async def scanned(self) -> None:
        """Returns when all copies on the disk are counted."""
        await self._scanned.wait()

    async def _scan(self) -> None:
        await self._walker.run(self.store.scan)
        self._scanned.set()

    async def close(self) -> None:
        await self._tasks.close()
        await self._threads.drain(DRAIN_SECONDS)
        self.store.stop()
        self._threads.close()
        self._walker.close()

    def key(self, path: str) -> str:
        return self._prefix + path

    def pin(self, path: str) -> AbstractContextManager[None]:
        """Inside the `with`, the copy of this path is not evicted."""
        return self.store.pin(self.key(path))

    async def find(self, path: str) -> OriginMetadata | None:
        """The metadata of the copy; None if there is no copy, or it was purged or cannot be read."""
        key = self.key(path)
        try:
            metadata = await self._threads.run(lambda: self.store.metadata(key))
        except OSError as error:
            self._warn(error)
            return None
        return None if metadata is None or self._purges.match(path, metadata.validated) else metadata

    async def open(self, metadata: OriginMetadata) -> tuple[int, bytes] | None:
        """A descriptor of the copy, which the caller closes, and its first bytes; None if the copy is gone."""
        return await self._in_thread(lambda: self._open(metadata), undo=_close)

    async def check_readable(self, path: str, metadata: OriginMetadata, descriptor: int) -> None:
        """For a copy that does not decode. Raises Unavailable if the disk does not give back what was written; the copy
        is removed then."""
        assert metadata.body is not None
        length = metadata.body.length
        try:
            await self._in_thread(lambda: check_readable(descriptor, length))
        except Unavailable:
            await self.remove(path)
            raise

    def path(self, metadata: OriginMetadata) -> Path:
        return self.store.path(metadata)

    def new_download(self) -> PartialDownload:
        return PartialDownload(self.store)

    async def append(self, download: PartialDownload, chunk: bytes) -> None:
        await self._in_thread(lambda: download.write(chunk))

    async def commit(self, download: PartialDownload, metadata: OriginMetadata) -> OriginMetadata:
        """Makes a whole download the copy. Returns the metadata with the body."""
        return await self._in_thread(lambda: download.commit(metadata))

    async def discard(self, download: PartialDownload) -> None:
        """Deletes an unfinished download, even if the caller is cancelled. Does nothing after `commit`."""
        await self._threads.run_to_completion(download.discard)

    async def update(self, metadata: OriginMetadata) -> None:
        """Replaces the metadata of an unchanged copy."""
        await self._in_thread(lambda: self.store.update_metadata(metadata))

    async def remove(self, path: str) -> None:
        await self._in_thread(lambda: self.store.remove(self.key(path)))

    def remove_soon(self, path: str) -> None:
        """`remove` without waiting for it."""
        with suppress(Unavailable):  # after `close`
            self._threads.submit_to_completion(lambda: self.store.remove(self.key(path)))

    def invalidate(self, matches: Callable[[str], bool], *, now: float) -> None:
        """From now on `find` returns no copy of a matching path that was validated before `now`."""
        self._purges.add(PendingPurge(now, matches))

    async def sweep(self) -> None:
        """Deletes the invalidated copies. Reads the metadata of all copies."""
        purges, prefix = self._purges.snapshot(), self._prefix

        def matches(metadata: OriginMetadata) -> bool:
            path = metadata.key.removeprefix(prefix)
            return path != metadata.key and is_purged(purges, path, metadata.validated)

        await self._walker.run(lambda: self.store.sweep(matches))
        self._purges.remove(purges)

    def _open(self, metadata: OriginMetadata) -> tuple[int, bytes] | None:
        descriptor = self.store.open(metadata)
        return None if descriptor is None else (descriptor, read_head(descriptor))

    async def _in_thread(self, work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        try:
            return await self._threads.run(work, undo=undo)
        except OSError as error:
            self._warn(error)
            raise Unavailable("The disk of the origin cache failed", reason="disk", retry_after=5) from error
        except ValueError as error:  # the path is too long for the metadata
            raise NotFound() from error

    def _warn(self, error: OSError) -> None:
        if not self._warned.get(self._name):
            self._warned.put(self._name, True)
            log.warning("origin_cache.disk_failed", extra={"source": self._name, "error": error.strerror})


def _close(opened: tuple[int, bytes] | None) -> None:
    if opened is not None:
        os.close(opened[0])
