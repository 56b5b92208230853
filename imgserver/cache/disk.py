"""The disk tier: files in threads of its own, with deadlines. A slow, full, broken or read-only disk is a miss."""

import asyncio
import errno
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from annotated_types import Ge, Gt, Le, doc

from imgserver.cache.disk_store import Shelf
from imgserver.cache.record import Corrupt
from imgserver.cache.sweeper import SweepResult
from imgserver.errors import Unavailable
from imgserver.plan.rendition import GroupGenerations, Rendition
from imgserver.runtime.threads import PoolBusy, ThreadPool

GIB = 1 << 30
MIB = 1 << 20
THREADS = 4

# Calls in threads or waiting for one. Beyond it the disk has stopped, and a look-up is a miss at once.
CALLS = 64

# Why a record may not be written.
DROPS = ("paused", "error", "size", "starting")

# Faults of one file or one moment; every other one that a write meets is the disk's, and stops writes for a while.
_PASSING = frozenset({errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.EEXIST, errno.EINTR})

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


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """Totals count since the start; `corrupt` by the record's reason, `dropped_writes` by why nothing was written.

    A look-up is one of hit, miss (a corrupt record, too), `stale` (purged or over), error (the disk failed or was too
    slow) and `bypassed` (too many calls wait for it already). `timeouts` are of all calls. `free_bytes` and
    `size_bytes` are those of the file system; None: not known.
    """

    entries: int
    bytes: int
    limit_bytes: int
    scanned: bool
    writes_paused: bool
    hits: int
    misses: int
    stale: int
    errors: int
    bypassed: int
    timeouts: int
    evictions: int
    corrupt: Mapping[str, int]
    dropped_writes: Mapping[str, int]
    free_bytes: int | None
    size_bytes: int | None


class DiskTier:
    """A `Tier` of files. Survives restarts and kills; reads work at once, writes when the scan at start has ended."""

    def __init__(self, settings: DiskSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._shelf = Shelf(settings.path, limit_bytes=settings.limit_bytes, item_bytes=settings.item_bytes)
        self._threads = ThreadPool(THREADS, "disk", max_pending=CALLS)
        self._walker = ThreadPool(1, "disk-walk")
        self._scan: Future[None] | None = None
        self._paused_until = -1.0
        self._hits = self._misses = self._stale = self._errors = self._bypassed = self._timeouts = 0
        self._room: os.statvfs_result | None = None
        self._corrupt: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    async def start(self) -> None:
        """Begins the scan and does not wait for it."""
        self._scan = self._walker.submit(self._shelf.scan)
        self._scan.add_done_callback(_tell_scan)

    async def scanned(self) -> None:
        """Waits for the scan. OSError: the folder cannot be had, and nothing will be written."""
        if self._scan is not None:
            await asyncio.shield(asyncio.wrap_future(self._scan))

    async def close(self) -> None:
        """Drops what waits for a thread, and does not wait for a disk that has stopped."""
        self._shelf.stop()
        self._threads.close()
        self._walker.close()

    async def get(self, key: str) -> Rendition | None:
        try:
            rendition = await self._call(lambda: self._shelf.load(key))
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

    def note_stale(self) -> None:
        """What was got last cannot be used, says its owner."""
        self._hits -= 1
        self._stale += 1

    async def put(self, key: str, rendition: Rendition) -> bool:
        if self._clock() < self._paused_until:
            self._dropped["paused"] += 1
            return False
        try:
            kept = await self._call(lambda: self._shelf.store(key, rendition))
        except (OSError, PoolBusy, Unavailable, ValueError) as error:
            self._dropped["error"] += 1
            self._pause(error)
            return False
        if not kept:
            self._dropped["size" if self._shelf.scanned else "starting"] += 1
        return kept

    async def drop(self, key: str) -> None:
        with suppress(OSError, PoolBusy, Unavailable):
            await self._call(lambda: self._shelf.remove(key))

    async def sweep(self, keeps: Callable[[float | None, GroupGenerations], bool]) -> SweepResult:
        """Removes every record whose (expires, generations) are not kept. Reads each file's head: minutes, not
        milliseconds,
        of a large folder, in a thread that gives way."""
        try:
            removed, unread = await self._walker.run(lambda: self._shelf.sweep(keeps))
        except (OSError, Unavailable):
            return SweepResult(incomplete="failed")
        # The walker has ended its scan, or could not.
        return SweepResult(removed, "failed" if unread or not self._shelf.scanned else "")

    async def measure(self) -> None:
        """Looks how full the file system is; for the statistics."""
        try:
            self._room = await self._call(lambda: os.statvfs(self._settings.path))
        except (OSError, PoolBusy, Unavailable):
            self._room = None

    def statistics(self) -> DiskStatistics:
        return DiskStatistics(
            entries=self._shelf.entries,
            bytes=self._shelf.bytes,
            limit_bytes=self._settings.limit_bytes,
            scanned=self._shelf.scanned,
            writes_paused=self._clock() < self._paused_until,
            hits=self._hits,
            misses=self._misses,
            stale=self._stale,
            errors=self._errors,
            bypassed=self._bypassed,
            timeouts=self._timeouts,
            evictions=self._shelf.evictions,
            corrupt=dict(self._corrupt),
            dropped_writes=dict(self._dropped),
            free_bytes=self._room and self._room.f_bavail * self._room.f_frsize,
            size_bytes=self._room and self._room.f_blocks * self._room.f_frsize,
        )

    async def _call(self, work: Callable[[], T]) -> T:
        """The result of `work` in a thread. Raises TimeoutError (an OSError) after `timeout_seconds`, PoolBusy while
        CALLS are pending, Unavailable after `close`."""
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                return await self._threads.run(work)
        except TimeoutError:
            self._timeouts += 1
            raise

    def _pause(self, error: Exception) -> None:
        if not isinstance(error, OSError) or isinstance(error, TimeoutError) or error.errno in _PASSING:
            return
        self._paused_until = self._clock() + self._settings.retry_delay_seconds
        log.warning("The disk cache is not written for %g s: %s", self._settings.retry_delay_seconds, error.strerror)


def _tell_scan(scan: "Future[None]") -> None:
    """Told once, at start: a folder that cannot be had is a tier that misses."""
    if not scan.cancelled() and (error := scan.exception()) is not None:
        log.warning("The disk cache is off: %s", error)
