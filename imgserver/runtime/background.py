"""Supervised background work: long-lived tasks that are restarted, and refreshes that run at most once per key."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiojobs

from imgserver.errors import ImgserverError
from imgserver.runtime.ttl_map import TtlMap

CLOSE_SECONDS = 2.0

# A task that fails is restarted after a pause that doubles with each failure. A task that has run for the longest pause
# starts again with the shortest one.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

# BackgroundRefresh: concurrent refreshes, and how long a failed key is not tried again. Without the pause, each request
# for a stale rendition of a broken original would start another render.
MAX_CONCURRENT = 8
FAILURE_PAUSE_SECONDS = 1.0
MAX_PAUSED_KEYS = 1024

# Takes the name of a task and the exception that ended it. The name is one of a few words, fit for a metric's label.
OnTaskFailure = Callable[[str, Exception], None]

log = logging.getLogger(__name__)


def log_task_failure(task: str, error: Exception) -> None:
    log.error("background.task_failed", exc_info=error, extra={"task": task, "error": repr(error)})


class BackgroundTasks:
    """The background tasks of one component. An unexpected exception of a task is reported to `on_failure`, never
    lost. Use from one event loop."""

    def __init__(
        self,
        *,
        on_failure: OnTaskFailure = log_task_failure,
        close_seconds: float = CLOSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._on_failure = on_failure
        self._close_seconds = close_seconds
        self._clock = clock
        self._sleep = sleep
        self._scheduler = aiojobs.Scheduler(limit=None, close_timeout=close_seconds)
        self._long_lived: list[aiojobs.Job[None]] = []

    @property
    def closed(self) -> bool:
        return self._scheduler.closed

    async def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Starts a task that lives until `close`. `work` is called again after a pause when it raises an exception; the
        task ends when it returns."""
        self._long_lived.append(await self._scheduler.spawn(self._restart(name, work), name=name))

    async def run_once(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Starts a task that calls `work` once. Does nothing after `close`."""
        if not self._scheduler.closed:
            await self._scheduler.spawn(self._report(name, work), name=name)

    async def close(self) -> None:
        """Cancels the long-lived tasks one by one, the last started first, then all others; waits until they have
        ended, `close_seconds` at most for each step."""
        for job in reversed(self._long_lived):
            await job.close(timeout=self._close_seconds)
        self._long_lived.clear()
        await self._scheduler.close()

    async def _restart(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = self._clock()
            try:
                await work()
            except Exception as error:
                self._on_failure(name, error)
            else:
                return
            if self._clock() - started >= LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            await self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _report(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except Exception as error:
            self._on_failure(name, error)


@dataclass(frozen=True, slots=True)
class RefreshStatistics:
    """Totals since the start, but for `running`. `skipped`: not started because MAX_CONCURRENT were running or the key
    had just failed; a later request starts it."""

    running: int
    started: int
    failed: int
    skipped: int


class BackgroundRefresh:
    """Refreshes in the background what was served stale: at most MAX_CONCURRENT, one per key. Use from one event
    loop."""

    def __init__(
        self, *, on_failure: OnTaskFailure = log_task_failure, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paused = TtlMap[str, bool](FAILURE_PAUSE_SECONDS, max_entries=MAX_PAUSED_KEYS, clock=clock)
        self._tasks = BackgroundTasks(on_failure=on_failure)
        self._running: set[str] = set()
        self._started = self._failed = self._skipped = 0

    async def start(self, key: str, work: Callable[[], Awaitable[object]]) -> None:
        """Starts `work` and returns immediately. Does nothing while the key is being refreshed, when the refresh is
        skipped (see `RefreshStatistics`), and after `close`."""
        if key in self._running or self._tasks.closed:
            return
        if len(self._running) >= MAX_CONCURRENT or self._paused.get(key):
            self._skipped += 1
            return
        self._running.add(key)
        self._started += 1
        await self._tasks.run_once("refresh", lambda: self._run(key, work))

    async def close(self) -> None:
        """Cancels the running refreshes."""
        await self._tasks.close()

    def statistics(self) -> RefreshStatistics:
        return RefreshStatistics(len(self._running), self._started, self._failed, self._skipped)

    async def _run(self, key: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except ImgserverError:
            # The client has its response already. Where it failed, the error was counted and logged.
            self._fail(key)
        except Exception:
            self._fail(key)
            raise
        finally:
            self._running.discard(key)

    def _fail(self, key: str) -> None:
        self._failed += 1
        self._paused.put(key, True)
