"""The worker slots: as many renders at once as there are slots, each in a process that can be killed alone.

Rules:
  1. One process more than slots is kept warm. A dead one is replaced at once, and meanwhile the spare works.
  2. A render ends when its worker has answered or is dead, never because somebody lost interest: so a slot that is
     free is free. At the deadline, or when the caller is cancelled, the worker is killed and its death awaited.
  3. A death that was not its own deadline is retried once. Two deaths under one key set the key aside; a SIGKILL that
     neither we nor the kernel's want of memory sent says little about a picture, and counts for a tenth.
  4. Workers that cannot start are tried one at a time, after 0.5 s, doubling to 30 s; renders are refused meanwhile.
"""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from types import MappingProxyType

from imgserver.engine import sandbox
from imgserver.engine.job import Codecs, Job, RenderResult
from imgserver.errors import DeadlineExceeded, ImgserverError, Quarantined, ServerFault, Unavailable, WorkerLost
from imgserver.rendering.quarantine import OTHERS_SHARE, Quarantine
from imgserver.rendering.supervisor import Supervisor
from imgserver.rendering.worker_process import State, WorkerProcess
from imgserver.rendering.worker_process import WorkerEvent as WorkerEvent
from imgserver.rendering.worker_process import WorkerSettings as WorkerSettings
from imgserver.runtime import resources

# Deaths that replace a worker, by reason.
REASONS = ("crash", "oom", "timeout", "abandoned", "rss", "recycle", "start")
RETRY_AFTER_SECONDS = 2
# Deaths in the middle of one render before its visitor is told to come back.
DEATHS_LIMIT = 2

# With less than this left no picture is begun: its worker would only be killed for it.
LEAST_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    busy: int
    """Workers rendering."""
    idle: int
    """Warm workers that may be given work now."""
    spare: int
    """Warm workers beyond the slots."""
    starting: int
    """Workers not warm yet."""
    restarts: Mapping[str, int]
    """Workers replaced since the start, by reason; every reason is present."""
    renders: int
    """Tasks that workers answered, errors included."""
    busy_seconds: float
    """Wall seconds of work since the start, summed over workers, running work included."""
    rss_bytes: Mapping[int, int]
    """Resident bytes by worker number."""
    start_seconds: float
    """How long the latest start took, to warm."""
    quarantined: int
    """Keys set aside now."""


class _Died(Exception):
    """The worker died under a render, for this reason. `begun`: it had laid hands on it. `by_others`: somebody
    outside killed it."""

    def __init__(self, reason: str, *, begun: bool, by_others: bool) -> None:
        self.reason = reason
        self.begun = begun
        self.by_others = by_others


def _ignore(_: WorkerEvent) -> None:
    pass


class WorkerPool:
    """Slots and a spare. Everything happens in the event loop of `start`, whose thread must live as long as they do:
    the kernel kills a worker when the thread that made it ends."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        work: sandbox.Work = sandbox.render,
        opener: Callable[[], Codecs] = sandbox.open_engine,
        on_event: Callable[[WorkerEvent], None] = _ignore,
    ) -> None:
        """`work` and `opener` are imported by name in the worker; partials of module functions will do."""
        self.count = settings.count or resources.cpus()
        self._settings = settings
        self._on_event = on_event
        self._crew = Supervisor(
            self.count + 1,
            settings=settings,
            work=work,
            opener=opener,
            on_event=on_event,
            on_change=self._changed,
        )
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._stirred = asyncio.Event()
        self._closing = False
        self._quarantine = Quarantine(time.monotonic)
        self._renders = 0
        self._busy_seconds = 0.0

    def __repr__(self) -> str:
        states = Counter(worker.state for worker in self._crew.workers.values())
        told = ", ".join(f"{states[state]} {state.value}" for state in State)
        return f"<Workers {told}; {self.count} slots, {self._crew.restarts.total()} restarts>"

    @property
    def ready(self) -> bool:
        """Whether a render could begin: some worker is warm, and nobody closes them."""
        return not self._closing and self._crew.warm > 0

    @property
    def codecs(self) -> Codecs:
        """What the latest worker to warm up reported; empty before the first."""
        return self._crew.codecs

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self._crew.workers.values() if worker.pid)

    def statistics(self) -> WorkerStatistics:
        workers = self._crew.workers
        states = Counter(worker.state for worker in workers.values())
        idle = min(states[State.IDLE], self.count - states[State.BUSY])
        return WorkerStatistics(
            busy=states[State.BUSY],
            idle=idle,
            spare=states[State.IDLE] - idle,
            starting=states[State.STARTING],
            restarts=MappingProxyType({reason: self._crew.restarts[reason] for reason in REASONS}),
            renders=self._renders,
            busy_seconds=self._busy_seconds + sum(worker.busy_seconds() for worker in workers.values()),
            rss_bytes=MappingProxyType({number: worker.rss_bytes() for number, worker in sorted(workers.items())}),
            start_seconds=self._crew.start_seconds,
            quarantined=len(self._quarantine),
        )

    async def start(self) -> None:
        """Returns when all slots are warm, or when starting has failed and is being tried again."""
        self._crew.open()
        await self._until(lambda: self._crew.warm >= self.count or self._crew.failing)

    async def until_whole(self) -> None:
        """Returns when all slots and the spare are warm."""
        await self._until(lambda: self._crew.warm > self.count)

    async def render(self, job: Job, *, deadline: float, key: str) -> RenderResult:
        """Renders in a worker; `deadline` in seconds of time.monotonic(). Returns or raises when that worker has
        answered or is dead.

        Raises what the engine raises; DeadlineExceeded; WorkerLost when the worker died and no time was left to try
        again, or when the second died as well; Quarantined; Unavailable while no worker can be started, or when all are
        being closed.
        """
        self._quarantine.check(key)
        deaths = 0
        while True:
            try:
                return await self._attempt(job, deadline=deadline, key=key)
            except _Died as death:
                self._judge(death, key)
                deaths += death.begun
                if deaths >= DEATHS_LIMIT or time.monotonic() >= deadline:
                    raise WorkerLost(reason=death.reason, retry_after=RETRY_AFTER_SECONDS) from None

    async def close(self, *, grace_seconds: float) -> None:
        """Refuses new renders, lets running ones end within the grace, kills the rest and waits for their death."""
        self._closing = True
        self._refuse_waiting("drain")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._until(lambda: not self._crew.busy)
        await self._crew.close()

    # One render

    async def _attempt(self, job: Job, *, deadline: float, key: str) -> RenderResult:
        while True:
            worker = await self._take(deadline)
            try:
                self._quarantine.check(key)  # it may have killed another worker meanwhile
                if deadline - time.monotonic() < LEAST_SECONDS:
                    raise DeadlineExceeded("No worker was free in time")
            except (Quarantined, DeadlineExceeded):
                self._rest(worker)
                raise
            try:
                future = worker.submit(job, seconds=max(0.0, deadline - time.monotonic()))
            except (BrokenExecutor, RuntimeError):
                # It died idle, unnoticed as yet: no fault of this job.
                self._crew.replace(worker, worker.cause_of_death())
                continue
            return await self._await_end(worker, future, deadline)

    async def _take(self, deadline: float) -> WorkerProcess:
        """A warm worker, now busy. First come, first served."""
        if self._closing:
            raise _unavailable("drain")
        if self._crew.failing and not self._crew.warm:
            raise _unavailable("no worker")
        if time.monotonic() >= deadline:
            raise DeadlineExceeded("No time was left to begin")
        turn: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._hand_out()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await turn
        except BaseException as error:
            self._give_back(turn)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("No worker was free in time") from None
            raise

    async def _await_end(self, worker: WorkerProcess, future: "Future[RenderResult]", deadline: float) -> RenderResult:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[bool] = loop.create_future()
        # Handed in, not captured: a cycle would keep a dead worker's descriptors until the next garbage collection.
        future.add_done_callback(lambda future: self._crew.tell_loop(self._end, worker, future, ended))
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
        """The worker has answered or is dead: frees the slot, and tells whether it had begun."""
        ended.set_result(worker.has_begun())
        self._busy_seconds += worker.busy_seconds()
        worker.busy_since = None
        if isinstance(future.exception(), BrokenExecutor):
            # Also breaks without a death, when an answer cannot be read.
            self._crew.replace(worker, worker.cause_of_death())
            return
        self._renders += 1
        worker.renders += 1
        self._crew.note_render()
        self._rest(worker)

    def _judge(self, death: _Died, key: str) -> None:
        """After a death: raises what stands in the way of another attempt."""
        if death.reason == "timeout":
            raise DeadlineExceeded()
        if self._closing:
            raise _unavailable("drain")
        # When all are killed at once, a second attempt may be handed to one that is dying, too: no fault of the key.
        if death.begun:
            self._quarantine.note_death(key, share=OTHERS_SHARE if death.by_others else 1.0)
        try:
            self._quarantine.check(key)
        except Quarantined:
            self._on_event(WorkerEvent("quarantined", reason=death.reason, detail=key))
            raise

    # Handing out

    def _changed(self) -> None:
        """The crew has grown, shrunk, or failed to grow."""
        if self._crew.failing and not self._crew.warm:
            self._refuse_waiting("no worker")
        self._hand_out()
        self._stirred.set()

    def _hand_out(self) -> None:
        while self._waiting and self._crew.busy < self.count and (worker := self._crew.idle()):
            turn = self._waiting.popleft()
            if not turn.done():
                worker.state, worker.busy_since = State.BUSY, time.monotonic()
                turn.set_result(worker)

    def _give_back(self, turn: "asyncio.Future[WorkerProcess]") -> None:
        """The one who waited has gone: also when its turn came in the same tick."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif not turn.cancelled() and turn.exception() is None:
            self._rest(turn.result())

    def _rest(self, worker: WorkerProcess) -> None:
        """Between two tasks: back to the idle, or replaced when it has had its time."""
        worker.busy_since = None
        if worker.killed_for is not None:
            self._crew.replace(worker, worker.killed_for)
        elif worker.renders >= self._settings.recycle_renders:
            self._crew.replace(worker, "recycle")
        elif worker.renders and worker.rss_bytes() > self._settings.recycle_rss_bytes:
            self._crew.replace(worker, "rss")
        else:
            worker.state = State.IDLE
            self._changed()

    def _refuse_waiting(self, reason: str) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(_unavailable(reason))
                turn.exception()  # its owner may be leaving in this very tick

    async def _until(self, fact: Callable[[], bool]) -> None:
        while not fact():
            self._stirred.clear()
            await self._stirred.wait()


def _expire(worker: WorkerProcess, future: "Future[RenderResult]") -> None:
    # After a blocked loop the timer may come before the news that the worker had long finished.
    if not future.done():
        worker.kill("timeout")


async def _outlast(ended: "asyncio.Future[bool]") -> None:
    """Waits on, however often the caller is cancelled meanwhile: it raises its cancellation afterwards."""
    while not ended.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(ended)


def _outcome(worker: WorkerProcess, future: "Future[RenderResult]", *, begun: bool) -> RenderResult:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenExecutor):
        raise _Died(worker.killed_for or "crash", begun=begun, by_others=worker.was_killed_by_others())
    if isinstance(error, ImgserverError):
        raise error
    raise ServerFault("The picture could not be made") from error


def _unavailable(reason: str) -> Unavailable:
    return Unavailable(reason=reason, retry_after=RETRY_AFTER_SECONDS)
