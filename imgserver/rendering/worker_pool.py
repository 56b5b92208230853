"""The worker pool: as many renders at a time as there are slots, each in a process that can be killed alone.

Rules:
  1. One process more than slots is kept warm. A dead process is replaced at once, and meanwhile the spare works.
  2. A render ends when its worker has answered or is dead, never because a client disconnected. So a free slot is
     really free. At the deadline, or when the caller is cancelled, the worker is killed and its death awaited.
  3. A render whose worker died before the deadline is tried once more. Two deaths quarantine the key. A SIGKILL that
     neither the server nor the kernel's out-of-memory killer sent says little about an image, and counts as a tenth of
     a death.
  4. Workers that cannot start are tried one at a time, after 0.5 s, doubling to 30 s. Renders are refused meanwhile.

The pool has no queue. Admission takes a worker when it is a ticket's turn.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from types import MappingProxyType

from imgserver.engine import sandbox
from imgserver.engine.job import Codecs, Job, RenderResult
from imgserver.errors import DeadlineExceeded, ImgserverError, Quarantined, ServerFault, Unavailable, WorkerLost
from imgserver.rendering.cost import Cost
from imgserver.rendering.quarantine import OTHERS_SHARE, Quarantine
from imgserver.rendering.supervisor import Supervisor
from imgserver.rendering.ticket import Ticket
from imgserver.rendering.worker_process import WorkerEvent as WorkerEvent
from imgserver.rendering.worker_process import WorkerProcess, WorkerState
from imgserver.rendering.worker_process import WorkerSettings as WorkerSettings
from imgserver.runtime import resources

# Why a worker was replaced.
REASONS = ("crash", "oom", "killed", "timeout", "abandoned", "rss", "recycle", "start")
RETRY_AFTER_SECONDS = 2
# So many workers may die during one render before its client gets an error.
DEATHS_LIMIT = 2
# With less time left than this, no render is started: its worker would only be killed.
MIN_RENDER_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    busy: int
    """Workers that render."""
    idle: int
    """Warm workers that may get a job now."""
    spare: int
    """Warm workers beyond the slots."""
    starting: int
    """Workers that are not warm yet."""
    restarts: Mapping[str, int]
    """Workers replaced since the start, by reason; every reason is present."""
    renders: int
    """Jobs that workers answered, errors included."""
    busy_seconds: float
    """Wall seconds of work since the start, summed over workers, running jobs included."""
    rss_bytes: Mapping[int, int]
    """Resident bytes by worker number."""
    start_seconds: float
    """How long the last start took, until the worker was warm."""
    quarantined: int
    """Keys in quarantine now."""


class _WorkerDied(Exception):
    """The worker died during a render. `begun`: it had started the job. `by_others`: it was killed from outside."""

    def __init__(self, reason: str, *, begun: bool, by_others: bool) -> None:
        self.reason = reason
        self.begun = begun
        self.by_others = by_others


def _ignore(*_: object) -> None:
    pass


class WorkerPool:
    """Slots and a spare worker. Everything happens in the event loop of `start`, whose thread must live as long as the
    workers do: the kernel kills a worker when the thread that created it ends."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        work: sandbox.RunJob = sandbox.render,
        opener: Callable[[], Codecs] = sandbox.open_engine,
        on_event: Callable[[WorkerEvent], None] = _ignore,
    ) -> None:
        """`work` and `opener` are imported by name in the worker: module functions, or partials of them."""
        self.count = settings.count or resources.cpus()
        self._settings = settings
        self._on_event = on_event
        self._supervisor = Supervisor(
            self.count + 1,
            settings=settings,
            work=work,
            opener=opener,
            on_event=on_event,
            on_change=self._changed,
        )
        self._on_change: Callable[[], None] = _ignore
        self._change = asyncio.Event()
        self._closing = False
        self._quarantine = Quarantine(time.monotonic)
        self._renders = 0
        self._busy_seconds = 0.0

    def __repr__(self) -> str:
        states = Counter(worker.state for worker in self._supervisor.workers.values())
        counts = ", ".join(f"{states[state]} {state.value}" for state in WorkerState)
        return f"<WorkerPool {counts}; {self.count} slots, {self._supervisor.restarts.total()} restarts>"

    @property
    def ready(self) -> bool:
        """Whether a render could start: a worker is warm, and the pool is not closing."""
        return not self._closing and self._supervisor.warm > 0

    @property
    def codecs(self) -> Codecs:
        """What the last worker to become warm reported; empty before the first."""
        return self._supervisor.codecs

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self._supervisor.workers.values() if worker.pid)

    def statistics(self) -> WorkerStatistics:
        workers = self._supervisor.workers
        states = Counter(worker.state for worker in workers.values())
        idle = min(states[WorkerState.IDLE], self.count - states[WorkerState.BUSY])
        return WorkerStatistics(
            busy=states[WorkerState.BUSY],
            idle=idle,
            spare=states[WorkerState.IDLE] - idle,
            starting=states[WorkerState.STARTING],
            restarts=MappingProxyType({reason: self._supervisor.restarts[reason] for reason in REASONS}),
            renders=self._renders,
            busy_seconds=self._busy_seconds + sum(worker.busy_seconds() for worker in workers.values()),
            rss_bytes=MappingProxyType({number: worker.rss_bytes() for number, worker in sorted(workers.items())}),
            start_seconds=self._supervisor.start_seconds,
            quarantined=len(self._quarantine),
        )

    async def start(self) -> None:
        """Returns when all slots have a warm worker, or when a start has failed and the next attempt is scheduled."""
        self._supervisor.open()
        await self._until(lambda: self._supervisor.warm >= self.count or self._supervisor.failing)

    async def until_whole(self) -> None:
        """Returns when all slots and the spare are warm."""
        await self._until(lambda: self._supervisor.warm > self.count)

    async def render(self, job: Job, *, ticket: Ticket, cost: Cost, key: str) -> RenderResult:
        """Waits for the ticket's turn, renders, and returns or raises when the worker has answered or is dead.

        Raises what `Ticket.slot` and the engine raise; DeadlineExceeded; WorkerLost if a worker died and no time was
        left for a second attempt, or the second worker died as well; Quarantined for a key that killed workers.
        """
        deaths = 0
        self._quarantine.check(key)
        while True:
            try:
                async with ticket.slot(cost) as worker:
                    return await self._attempt(worker, job, deadline=ticket.deadline, key=key)
            except _WorkerDied as death:
                self._check_retry(death, key)
                deaths += death.begun
                if deaths >= DEATHS_LIMIT or time.monotonic() >= ticket.deadline:
                    raise WorkerLost(reason=death.reason, retry_after=RETRY_AFTER_SECONDS) from None

    async def close(self, *, grace_seconds: float) -> None:
        """Refuses new renders, lets running ones end within the grace, kills the rest and waits for their death."""
        self._closing = True
        self._changed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._until(lambda: not self._supervisor.busy)
        await self._supervisor.close()

    # For admission

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Calls `on_change` whenever a worker may have become free, or the pool unavailable. The last caller counts."""
        self._on_change = on_change

    def take(self) -> WorkerProcess | None:
        """Takes a free worker; None while all slots are taken or no worker is warm."""
        if self._closing or self._supervisor.busy >= self.count:
            return None
        worker = self._supervisor.idle()
        if worker is not None:
            worker.state, worker.busy_since = WorkerState.BUSY, time.monotonic()
        return worker

    def give_back(self, worker: WorkerProcess) -> None:
        """Frees a taken worker between two jobs: it becomes idle, or is replaced if it is due for recycling."""
        worker.busy_since = None
        if worker.killed_for is not None:
            self._supervisor.replace(worker, worker.killed_for)
        elif worker.renders >= self._settings.recycle_renders:
            self._supervisor.replace(worker, "recycle")
        elif worker.renders and worker.rss_bytes() > self._settings.recycle_rss_bytes:
            self._supervisor.replace(worker, "rss")
        else:
            worker.state = WorkerState.IDLE
            self._changed()

    def unavailable(self) -> Unavailable | None:
        """The error for every render while the pool is closing, or while no worker can be started."""
        if self._closing:
            return Unavailable(reason="drain", retry_after=RETRY_AFTER_SECONDS)
        if self._supervisor.failing and not self._supervisor.warm:
            return Unavailable(reason="no worker", retry_after=RETRY_AFTER_SECONDS)
        return None

    # One render

    async def _attempt(self, worker: WorkerProcess, job: Job, *, deadline: float, key: str) -> RenderResult:
        try:
            self._quarantine.check(key)  # another render of the key may have killed a worker meanwhile
            if deadline - time.monotonic() < MIN_RENDER_SECONDS:
                raise DeadlineExceeded("No worker was free in time")
        except (Quarantined, DeadlineExceeded):
            self.give_back(worker)
            raise
        try:
            future = worker.submit(job, seconds=max(0.0, deadline - time.monotonic()))
        except (BrokenExecutor, RuntimeError):
            # It died while idle, and the event loop has not noticed yet. The job is not at fault.
            reason = worker.cause_of_death()
            self._supervisor.replace(worker, reason)
            raise _WorkerDied(reason, begun=False, by_others=True) from None
        return await self._await_end(worker, future, deadline)

    async def _await_end(self, worker: WorkerProcess, future: "Future[RenderResult]", deadline: float) -> RenderResult:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[bool] = loop.create_future()
        # Passed in, not captured: a reference cycle would keep a dead worker's descriptors until garbage collection.
        future.add_done_callback(lambda future: self._supervisor.call_in_loop(self._end, worker, future, ended))
        timer = loop.call_later(deadline - time.monotonic(), _expire, worker, future)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            if not future.done():
                worker.kill("abandoned")
            await _outlast(ended)
            raise
        finally:
            timer.cancel()
        return _outcome(worker, future, begun=ended.result())

    def _end(self, worker: WorkerProcess, future: "Future[RenderResult]", ended: "asyncio.Future[bool]") -> None:
        """The worker has answered or is dead: frees the slot. The result of `ended` is whether the job was started."""
        ended.set_result(worker.has_begun())
        self._busy_seconds += worker.busy_seconds()
        worker.busy_since = None
        if isinstance(future.exception(), BrokenExecutor):
            # The executor also breaks without a death, if a result cannot be unpickled.
            self._supervisor.replace(worker, worker.cause_of_death())
            return
        self._renders += 1
        worker.renders += 1
        self._supervisor.note_render()
        self.give_back(worker)

    def _check_retry(self, death: _WorkerDied, key: str) -> None:
        """Raises what forbids a second attempt: DeadlineExceeded, Unavailable or Quarantined."""
        if death.reason == "timeout":
            raise DeadlineExceeded()
        if self._closing:
            raise Unavailable(reason="drain", retry_after=RETRY_AFTER_SECONDS)
        # If all workers are killed together, the second attempt may get a dying worker, too. The key is not at fault.
        if death.begun:
            self._quarantine.note_death(key, share=OTHERS_SHARE if death.by_others else 1.0)
        try:
            self._quarantine.check(key)
        except Quarantined:
            self._on_event(WorkerEvent("quarantined", reason=death.reason, detail=key))
            raise

    def _changed(self) -> None:
        """A worker became idle, started, died, or failed to start."""
        self._on_change()
        self._change.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._change.clear()
            await self._change.wait()


def _expire(worker: WorkerProcess, future: "Future[RenderResult]") -> None:
    # After a blocked event loop, this timer may run before the callback of a job that ended long ago.
    if not future.done():
        worker.kill("timeout")


async def _outlast(ended: "asyncio.Future[bool]") -> None:
    """Waits on, however often the caller is cancelled meanwhile: the caller raises its cancellation afterwards."""
    while not ended.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(ended)


def _outcome(worker: WorkerProcess, future: "Future[RenderResult]", *, begun: bool) -> RenderResult:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenExecutor):
        raise _WorkerDied(worker.killed_for or "crash", begun=begun, by_others=worker.was_killed_by_others())
    if isinstance(error, ImgserverError):
        raise error
    raise ServerFault("The image could not be rendered") from error
