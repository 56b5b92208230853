"""The supervisor keeps a fixed number of worker processes alive: it starts them, notices deaths, and replaces them.

After a failed start it waits before the next attempt: 0.5 s, doubling to 30 s, with jitter.
"""

import asyncio
import contextlib
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from imgserver.engine import sandbox
from imgserver.engine.job import Codecs
from imgserver.engine.sandbox import SandboxSettings, WorkerReady
from imgserver.rendering.worker_process import WorkerEvent, WorkerProcess, WorkerSettings, WorkerState
from imgserver.runtime import resources

START_SECONDS = 30.0
BACKOFF_SECONDS = 0.5
BACKOFF_CAP_SECONDS = 30.0
BACKOFF_JITTER = 1.25
# So many deaths per worker with no finished render in between count as failed starts.
FRUITLESS_DEATHS = 20


class Supervisor:
    """Worker processes by number. Calls `on_change` after every start, death and failed start. Runs in the event loop
    that called `open`."""

    def __init__(
        self,
        size: int,
        *,
        settings: WorkerSettings,
        work: sandbox.RunJob,
        opener: Callable[[], Codecs],
        on_event: Callable[[WorkerEvent], None],
        on_change: Callable[[], None],
    ) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self.codecs = Codecs()
        self.restarts: Counter[str] = Counter()
        self.start_seconds = 0.0
        self._size = size
        self._settings = settings
        self._work = work
        self._opener = opener
        self._on_event = on_event
        self._on_change = on_change
        self._closing = False
        self._proven = False  # the last start succeeded, so several workers may be started at the same time
        self._failures = 0
        self._fruitless_deaths = 0
        self._backoff: asyncio.TimerHandle | None = None
        self._removals: set[asyncio.Future[None]] = set()
        self._oom_counter = resources.OomKillCounter()
        self._oom_kills = self._oom_counter.read()

    @property
    def failing(self) -> bool:
        """Whether the last start failed and the next attempt is scheduled."""
        return self._backoff is not None

    @property
    def warm(self) -> int:
        """How many workers have started and are idle or busy."""
        return sum(worker.state is not WorkerState.STARTING for worker in self.workers.values())

    @property
    def busy(self) -> int:
        return sum(worker.state is WorkerState.BUSY for worker in self.workers.values())

    def idle(self) -> WorkerProcess | None:
        for worker in self.workers.values():
            if worker.state is WorkerState.IDLE:
                return worker
        return None

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._oom_counter.fallback:
            self._on_event(WorkerEvent("oom_kills_of_machine", detail=self._oom_counter.fallback))
        self._fill()

    def note_render(self) -> None:
        """A render has finished: if workers die, their start is not the reason."""
        self._fruitless_deaths = 0

    def replace(self, worker: WorkerProcess, reason: str) -> None:
        """Kills the worker unless it is dead, removes it at once, and starts another."""
        worker.kill(reason)
        self._remove(worker)

    async def close(self) -> None:
        """Kills all workers and waits for their death; starts no more."""
        self._closing = True
        self._set_backoff(None)
        workers = list(self.workers.values())
        # Killed first: the executors' threads, which are joined here and at interpreter exit, wait for the processes.
        for worker in workers:
            worker.kill("shutdown")
        await asyncio.gather(*(asyncio.to_thread(worker.wait_for_end) for worker in workers))
        for worker in workers:
            self._remove(worker)
        await asyncio.gather(*self._removals)

    def call_in_loop(self, call: Callable[..., None], *args: Any) -> None:
        """Schedules the call from an executor's thread."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed, and with it everything that would react
            self._loop.call_soon_threadsafe(call, *args)

    # Starts

    def _fill(self) -> None:
        """Starts the missing workers, one at a time until a start has succeeded."""
        while not self._closing and not self.failing and len(self.workers) < self._size:
            if not self._proven and len(self.workers) > self.warm:
                return
            self._launch()

    def _launch(self) -> None:
        number = next(number for number in range(self._size) if number not in self.workers)
        settings = SandboxSettings(os.getpid(), self._settings.memory_bytes, self._settings.nice)
        try:
            worker = WorkerProcess(number, settings=settings, opener=self._opener, work=self._work)
        except (OSError, RuntimeError) as error:  # no descriptor or thread left, or no space for its folder
            self._delay_starts(str(error))
            self._on_change()
            return
        self.workers[number] = worker
        try:
            ready = worker.start()
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread left, or a broken executor
            worker.kill("start")
            self._remove(worker, detail=str(error))
            return
        if worker.pidfd is not None:
            self._loop.add_reader(worker.pidfd, self._remove, worker)
        timer = self._loop.call_later(START_SECONDS, worker.kill, "start")
        # Passed in, not captured: a reference cycle would keep a dead worker's descriptors until garbage collection.
        ready.add_done_callback(lambda ready: self.call_in_loop(self._note_warm, worker, ready, timer))

    def _note_warm(self, worker: WorkerProcess, ready: "Future[WorkerReady]", timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        if self.workers.get(worker.number) is not worker:
            return
        error = ready.exception()
        if error is not None:
            worker.kill("start")
            self._remove(worker, detail=f"{type(error).__name__}: {error}")
            return
        self.codecs = ready.result().codecs
        self._proven, self._failures = True, 0
        self.start_seconds = time.monotonic() - worker.created
        worker.state = WorkerState.IDLE
        self._on_event(WorkerEvent("started", worker.number, worker.pid, seconds=self.start_seconds))
        self._fill()
        self._on_change()

    # Deaths

    def _remove(self, worker: WorkerProcess, *, detail: str = "") -> None:
        """Removes a dead or dying worker and starts another. Does nothing for a worker that was removed before."""
        if self.workers.get(worker.number) is not worker:
            return
        del self.workers[worker.number]
        if worker.pidfd is not None:
            self._loop.remove_reader(worker.pidfd)
        worker.killed_for = self._reason(worker)
        worker.release()
        self._remove_folder(worker.tmpdir)
        if not self._closing:
            self._note_death(worker, worker.killed_for, detail)
        self._on_change()

    def _reason(self, worker: WorkerProcess) -> str:
        if worker.state is WorkerState.STARTING:
            return "start"
        reason = worker.cause_of_death()
        return "oom" if reason in ("crash", "killed") and self._was_oom() else reason

    def _note_death(self, worker: WorkerProcess, reason: str, detail: str) -> None:
        self.restarts[reason] += 1
        lived = time.monotonic() - worker.created
        busy = worker.state is WorkerState.BUSY
        self._on_event(
            WorkerEvent("lost", worker.number, worker.pid, reason=reason, seconds=lived, detail=detail, busy=busy)
        )
        self._fruitless_deaths += 1
        if reason == "start" or self._fruitless_deaths > FRUITLESS_DEATHS * self._size:
            self._delay_starts(detail)
        self._fill()

    def _was_oom(self) -> bool:
        before, self._oom_kills = self._oom_kills, self._oom_counter.read()
        return self._oom_kills > before

    def _remove_folder(self, tmpdir: str) -> None:
        """In a thread: a killed worker may leave large files."""
        removal = self._loop.run_in_executor(None, lambda: shutil.rmtree(tmpdir, ignore_errors=True))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    # Failed starts

    def _delay_starts(self, detail: str) -> None:
        self._proven = False
        if self._backoff is not None:  # workers that died together count as one failure
            return
        delay = min(BACKOFF_CAP_SECONDS, BACKOFF_SECONDS * 2**self._failures)
        delay *= random.SystemRandom().uniform(1.0, BACKOFF_JITTER)
        self._failures = min(self._failures + 1, 10)
        self._set_backoff(self._loop.call_later(delay, self._try_again))
        self._on_event(WorkerEvent("start_failed", seconds=delay, detail=detail))

    def _try_again(self) -> None:
        self._set_backoff(None)
        self._fill()

    def _set_backoff(self, timer: asyncio.TimerHandle | None) -> None:
        if self._backoff is not None:
            self._backoff.cancel()
        self._backoff = timer
