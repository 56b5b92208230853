"""The disk tier: records as files, read and written in threads, each call with a deadline."""

import asyncio
import errno
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from annotated_types import Ge, Gt, Le, doc

from imgserver.cache.disk_store import RecordStore
from imgserver.cache.record import REASONS, Corrupt
from imgserver.cache.tier import IsKept, SweepResult, TierStatistics
from imgserver.errors import Unavailable
from imgserver.plan.rendition import Rendition
from imgserver.runtime.background import BackgroundTasks, OnTaskFailure, log_task_failure
from imgserver.runtime.resources import GIB, MIB
from imgserver.runtime.threads import PoolBusy, ThreadPool

THREADS = 4
# Calls that run in a thread or wait for one. With so many the disk has stalled, and further calls fail immediately.
MAX_CALLS = 64
# Disks fill up in minutes.
MEASURE_INTERVAL_SECONDS = 10.0

# Why a write was dropped: writes are paused; the disk failed; the body is too large; the scan at start has not ended.
DROP_REASONS = ("paused", "error", "size", "starting")

# Faults of one file or one moment. Any other fault of a write concerns the whole disk and pauses writes.
_TRANSIENT = frozenset({errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.EEXIST, errno.EINTR})

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DiskSettings:
    """The disk tier: its folder, its size and its time-outs."""

    path: Annotated[
        Path,
        doc("folder of the tier, for one server only; empty: one below the user's cache (XDG_CACHE_HOME)"),
    ] = Path()
    limit_bytes: Annotated[int, Ge(0), doc("size of all files together, in whole blocks; 0 switches the tier off")] = (
        GIB
    )
    item_bytes: Annotated[int, Ge(0), doc("largest rendition stored on disk")] = 16 * MIB
    timeout_seconds: Annotated[float, Gt(0), Le(60), doc("a lookup that takes longer counts as a miss")] = 1.0
    retry_delay_seconds: Annotated[float, Ge(0), Le(3600), doc("time without writes after a failed write")] = 60.0


class DiskTier:
    """A `Tier` of files that survives restarts and kills.

    A slow, full, broken or read-only disk is a miss. Lookups work from the beginning, writes from the end of the scan
    at start.
    """

    is_shared = False

    def __init__(
        self,
        settings: DiskSettings,
        *,
        on_task_failure: OnTaskFailure = log_task_failure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._store = RecordStore(settings.path, limit_bytes=settings.limit_bytes, item_bytes=settings.item_bytes)
        self._threads = ThreadPool(THREADS, "disk", max_pending=MAX_CALLS)
        # A scan or a sweep takes minutes and must not hold up lookups.
        self._scan_thread = ThreadPool(1, "disk-scan")
        self._tasks = BackgroundTasks(on_failure=on_task_failure)
        self._scan: Future[None] | None = None
        self._paused_until = -1.0
        self._pause_reason = ""
        self._hits = self._misses = self._errors = self._bypassed = self._timeouts = 0
        self._file_system: os.statvfs_result | None = None
        self._corrupt = Counter(dict.fromkeys(REASONS, 0))
        self._dropped = Counter(dict.fromkeys(DROP_REASONS, 0))

    @property
    def scanned(self) -> bool:
        return self._store.scanned

    async def start(self) -> None:
        """Begins the scan of the folder and returns."""
        self._scan = self._scan_thread.submit(self._store.scan)
        self._scan.add_done_callback(_log_scan)
        await self._tasks.start("disk_measurement", self._measure_forever)

    async def wait_scanned(self) -> None:
        """Waits for the end of the scan. Raises OSError if the folder cannot be used; then nothing is ever written."""
        if self._scan is not None:
            await asyncio.shield(asyncio.wrap_future(self._scan))

    async def close(self) -> None:
        """Discards the calls that wait for a thread. Does not wait for a stalled disk."""
        await self._tasks.close()
        self._store.stop()
        self._threads.close()
        self._scan_thread.close()

    async def get(self, key: str, _groups: Sequence[str] = (), /) -> Rendition | None:
        try:
            rendition = await self._call(lambda: self._store.load(key))
        except Corrupt as corrupt:
            self._corrupt[corrupt.reason] += 1
            rendition = None
        except (PoolBusy, Unavailable):
            self._bypassed += 1
            return None
        except OSError:
            self._errors += 1
            return None
        self._hits += rendition is not None
        self._misses += rendition is None
        return rendition

    async def put(self, key: str, rendition: Rendition) -> bool:
        if self._is_paused():
            self._dropped["paused"] += 1
            return False
        try:
            stored = await self._call(lambda: self._store.store(key, rendition))
        except (OSError, PoolBusy, Unavailable, ValueError) as error:
            self._dropped["error"] += 1
            self._pause_after(error)
            return False
        if not stored:
            self._dropped["size" if self._store.scanned else "starting"] += 1
        return stored

    async def drop(self, key: str) -> None:
        with suppress(OSError, PoolBusy, Unavailable):
            await self._call(lambda: self._store.remove(key))

    async def sweep(self, is_kept: IsKept, _groups: Sequence[str] = (), /) -> SweepResult:
        """Reads the head of every file, whatever the groups: seconds to minutes for a large folder."""
        try:
            removed, unread = await self._scan_thread.run(lambda: self._store.sweep(is_kept))
        except (OSError, Unavailable):
            return SweepResult(incomplete="failed")
        # The thread has finished the scan by now, unless the folder cannot be used.
        return SweepResult(removed, "failed" if unread or not self._store.scanned else "")

    async def measure(self) -> None:
        """Updates `free_bytes` and `size_bytes` of the statistics."""
        try:
            self._file_system = await self._call(lambda: os.statvfs(self._settings.path))
        except (OSError, PoolBusy, Unavailable):
            self._file_system = None

    def statistics(self) -> TierStatistics:
        return TierStatistics(
            entries=self._store.entries,
            bytes=self._store.size_bytes,
            limit_bytes=self._settings.limit_bytes,
            hits=self._hits,
            misses=self._misses,
            errors=self._errors,
            bypassed=self._bypassed,
            timeouts=self._timeouts,
            evictions=self._store.evictions,
            corrupt=dict(self._corrupt),
            dropped_writes=dict(self._dropped),
            free_bytes=self._file_system and self._file_system.f_bavail * self._file_system.f_frsize,
            size_bytes=self._file_system and self._file_system.f_blocks * self._file_system.f_frsize,
            degraded=self._is_paused(),
            degraded_reason=self._pause_reason if self._is_paused() else "",
            scanning=not self._store.scanned,
        )

    async def _measure_forever(self) -> None:
        with suppress(OSError):
            await self.wait_scanned()
        while True:
            await self.measure()
            await asyncio.sleep(MEASURE_INTERVAL_SECONDS)

    async def _call(self, work: Callable[[], T]) -> T:
        """The result of `work` in a thread. Raises TimeoutError (an OSError) after `timeout_seconds`, PoolBusy while
        MAX_CALLS are pending, Unavailable after `close`."""
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                return await self._threads.run(work)
        except TimeoutError:
            self._timeouts += 1
            raise

    def _is_paused(self) -> bool:
        return self._clock() < self._paused_until

    def _pause_after(self, error: Exception) -> None:
        if not isinstance(error, OSError) or isinstance(error, TimeoutError) or error.errno in _TRANSIENT:
            return
        self._paused_until = self._clock() + self._settings.retry_delay_seconds
        self._pause_reason = error.strerror or type(error).__name__
        fields = {"seconds": self._settings.retry_delay_seconds, "error": error.strerror}
        log.warning("disk_cache.writes_paused", extra=fields)


def _log_scan(scan: "Future[None]") -> None:
    """A folder that cannot be used is logged once; the tier then misses."""
    if not scan.cancelled() and (error := scan.exception()) is not None:
        log.warning("disk_cache.unavailable", extra={"error": str(error)})
