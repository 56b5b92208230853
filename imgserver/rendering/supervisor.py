"""The crew: a fixed number of worker processes kept alive; starts, deaths, replacements, and patience with failure."""

import asyncio
import contextlib
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from typing import Any

from imgserver.engine import sandbox
from imgserver.engine.job import Codecs
from imgserver.engine.sandbox import ChildSettings, Warmth
from imgserver.rendering.worker_process import State, WorkerEvent, WorkerProcess, WorkerSettings
from imgserver.runtime import resources

START_SECONDS = 30.0
BACKOFF_SECONDS = 0.5
BACKOFF_CAP_SECONDS = 30.0
BACKOFF_SPREAD = 1.25
# So many deaths per worker, with no render finished in between, count as starts that fail.
BARREN_DEATHS = 20


class Supervisor:
    """Workers by number. `on_change` is called after every birth, death and failed start; the loop is `open`'s."""

    def __init__(
        self,
        size: int,
        *,
        settings: WorkerSettings,
        work: sandbox.Work,
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
        self._proven = False  # the latest start went well, so several may be started at once
        self._failures = 0
        self._barren = 0
        self._backoff: asyncio.TimerHandle | None = None
        self._sweeps: set[asyncio.Future[None]] = set()
        self._oom_kills = resources.oom_kills()

    @property
    def failing(self) -> bool:
        """Whether the latest start failed and the next attempt is being waited for."""
        return self._backoff is not None

    @property
    def warm(self) -> int:
        return sum(worker.state is not State.STARTING for worker in self.workers.values())

    @property
    def busy(self) -> int:
        return sum(worker.state is State.BUSY for worker in self.workers.values())

    def idle(self) -> WorkerProcess | None:
        return next((worker for worker in self.workers.values() if worker.state is State.IDLE), None)

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._fill()

    def note_render(self) -> None:
        """A render was finished: whatever kills workers, it is not the start."""
        self._barren = 0

    def replace(self, worker: WorkerProcess, reason: str) -> None:
        """Kills the worker, takes it out at once and starts another. The dead, for whom nothing is left to do, too."""
        worker.kill(reason)
        self._bury(worker)

    async def close(self) -> None:
        """Kills all and waits for their death; nothing is started any more."""
        self._closing = True
        self._set_backoff(None)
        doomed = list(self.workers.values())
        # Killed first: the executors' threads, which are joined here and at interpreter exit, wait for the processes.
        for worker in doomed:
            worker.kill("shutdown")
        await asyncio.gather(*(asyncio.to_thread(worker.wait_for_end) for worker in doomed))
        for worker in doomed:
            self._bury(worker)
        await asyncio.gather(*self._sweeps)

    def tell_loop(self, call: Callable[..., None], *args: Any) -> None:
        """From an executor's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(call, *args)

    # Birth

    def _fill(self) -> None:
        """Starts what is missing; only one at a time until a start has gone well."""
        while not self._closing and not self.failing and len(self.workers) < self._size:
            if not self._proven and len(self.workers) > self.warm:
                return
            self._launch()

    def _launch(self) -> None:
        number = next(number for number in range(self._size) if number not in self.workers)
        settings = ChildSettings(os.getpid(), self._settings.memory_bytes, self._settings.nice)
        try:
            worker = WorkerProcess(number, settings=settings, opener=self._opener, work=self._work)
        except OSError as error:  # no descriptors left, or no room for its directory
            self._delay_starts(str(error))
            self._on_change()
            return
        self.workers[number] = worker
        try:
            warmth = worker.start()
        except (OSError, BrokenExecutor) as error:
            worker.kill("start")
            self._bury(worker, detail=str(error))
            return
        if worker.pidfd is not None:
            self._loop.add_reader(worker.pidfd, self._bury, worker)
        timer = self._loop.call_later(START_SECONDS, worker.kill, "start")
        # Handed in, not captured: a cycle would keep a dead worker's descriptors until the next garbage collection.
        warmth.add_done_callback(lambda warmth: self.tell_loop(self._warmed, worker, warmth, timer))

    def _warmed(self, worker: WorkerProcess, warmth: "Future[Warmth]", timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        if self.workers.get(worker.number) is not worker:
            return
        error = warmth.exception()
        if error is not None:
            worker.kill("start")
            self._bury(worker, detail=f"{type(error).__name__}: {error}")
            return
        self.codecs = warmth.result().codecs
        self._proven, self._failures = True, 0
        self.start_seconds = time.monotonic() - worker.born
        worker.state = State.IDLE
        self._on_event(WorkerEvent("started", worker.number, worker.pid, seconds=self.start_seconds))
        self._fill()
        self._on_change()

    # Death

    def _bury(self, worker: WorkerProcess, *, detail: str = "") -> None:
        """Takes a dead or dying worker out, and starts another. The first call counts."""
        if self.workers.get(worker.number) is not worker:
            return
        del self.workers[worker.number]
        if worker.pidfd is not None:
            self._loop.remove_reader(worker.pidfd)
        worker.killed_for = self._reason(worker)
        worker.bury()
        self._sweep(worker.tmpdir)
        if not self._closing:
            self._mourn(worker, worker.killed_for, detail)
        self._on_change()

    def _reason(self, worker: WorkerProcess) -> str:
        if worker.state is State.STARTING:
            return "start"
        reason = worker.cause_of_death()
        return "oom" if reason == "crash" and self._was_oom() else reason

    def _mourn(self, worker: WorkerProcess, reason: str, detail: str) -> None:
        self.restarts[reason] += 1
        lived = time.monotonic() - worker.born
        self._on_event(WorkerEvent("lost", worker.number, worker.pid, reason=reason, seconds=lived, detail=detail))
        self._barren += 1
        if reason == "start" or self._barren > BARREN_DEATHS * self._size:
            self._delay_starts(detail)
        self._fill()

    def _was_oom(self) -> bool:
        before, self._oom_kills = self._oom_kills, resources.oom_kills()
        return self._oom_kills > before

    def _sweep(self, tmpdir: str) -> None:
        """Off the loop: a killed worker may leave large files."""
        sweep = self._loop.run_in_executor(None, lambda: shutil.rmtree(tmpdir, ignore_errors=True))
        self._sweeps.add(sweep)
        sweep.add_done_callback(self._sweeps.discard)

    # Failure

    def _delay_starts(self, detail: str) -> None:
        self._proven = False
        if self._backoff is not None:  # workers that died together failed once
            return
        delay = min(BACKOFF_CAP_SECONDS, BACKOFF_SECONDS * 2**self._failures)
        delay *= random.SystemRandom().uniform(1.0, BACKOFF_SPREAD)
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
