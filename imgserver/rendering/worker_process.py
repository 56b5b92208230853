"""One worker process, as the server sees it: started, warmed up, given one job at a time, killed, released.

It is the only process of its executor, so that its death breaks no other worker. It is spawned, never forked: the
server has threads, and forking a process with threads makes the child hang. A forkserver has a worker ready in 16 ms
instead of 52 (median, pyvips imported). But the forkserver would be the parent of the workers: their death with the
server would depend on a second death signal, their exit status and environment on a third process. Both times are far
below the half second within which a pool must be whole again.
"""

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from enum import Enum
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from annotated_types import Ge, Interval, doc

from imgserver.engine import sandbox
from imgserver.engine.job import Codecs, Job, RenderResult
from imgserver.engine.sandbox import SandboxSettings, WorkerReady
from imgserver.runtime.resources import MIB

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# How long to wait for the exit status of a process whose pipes are closed.
STATUS_SECONDS = 0.05

# Why a worker died that this server did not kill, by its exit status. All other causes are crashes.
DEATHS: Mapping[int | None, str] = {-signal.SIGXCPU: "timeout", -signal.SIGKILL: "killed"}

# In the environment of a worker: libvips and malloc read them before any Python code runs.
ENVIRONMENT = {"VIPS_CONCURRENCY": "1", "MALLOC_ARENA_MAX": "2"}


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How many worker processes, and what each may take."""

    count: Annotated[int, Interval(ge=0, le=256), doc("worker processes; 0: one per CPU that this process may use")] = 0
    memory_bytes: Annotated[int, Ge(256 * MIB), doc("address space of one worker")] = 1024 * MIB
    nice: Annotated[
        int,
        Interval(ge=0, le=19),
        doc("nice value of workers, above the server's: cache hits stay fast under load"),
    ] = 10
    recycle_renders: Annotated[int, Ge(1), doc("renders after which a worker is replaced")] = 1000
    recycle_rss_bytes: Annotated[
        int, Ge(64 * MIB), doc("resident memory above which a worker is replaced after its render")
    ] = 300 * MIB


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """`kind`: started, lost (`reason` is a key of `restarts`), start_failed (`detail` says why), quarantined (`detail`
    is the key), oom_kills_of_machine (`detail` says why the kills of this cgroup alone cannot be counted).

    `seconds`: how long the start took, how long the lost worker lived, or the wait until the next attempt. `busy`:
    whether the lost worker had a job.
    """

    kind: str
    number: int = 0
    pid: int | None = None
    reason: str = ""
    seconds: float = 0.0
    detail: str = ""
    busy: bool = True


class WorkerState(Enum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"


class WorkerProcess:
    """`number` is its index among the workers; its replacement gets the same. Use from the thread of the event loop
    only: the kernel ties the death signal of a child to the thread that created it, not to the process."""

    def __init__(
        self, number: int, *, settings: SandboxSettings, opener: Callable[[], Codecs], work: sandbox.RunJob
    ) -> None:
        self.number = number
        self.state = WorkerState.STARTING
        self.renders = 0
        self.killed_for: str | None = None
        self.created = time.monotonic()
        self.busy_since: float | None = None
        self.pidfd: int | None = None
        self.tmpdir = tempfile.mkdtemp(prefix="imgserver-worker-")
        self._opener = opener
        self._nice = settings.nice
        self._work = work
        self._context = _RecordingContext()
        self._begun, self._begun_writer = self._context.Pipe(duplex=False)
        initargs = (settings, self._begun_writer)
        self._executor = ProcessPoolExecutor(1, self._context, initializer=sandbox.initialize, initargs=initargs)

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.number} pid {self.pid} {self.state.value}, {self.renders} renders>"

    @property
    def pid(self) -> int | None:
        return self._context.process.pid if self._context.process else None

    def start(self) -> "Future[WorkerReady]":
        """Spawns the process; blocks for some milliseconds. Raises OSError if no process can be created."""
        # It is started once, and unblocks the signals in this thread.
        resource_tracker.ensure_running()
        with _blocked_signals(), _plain_main(), _environment({**ENVIRONMENT, "TMPDIR": self.tmpdir}):
            ready = self._executor.submit(sandbox.start_engine, self._opener, self._nice)
        self._context.close_result_writer()
        self._begun_writer.close()
        # Opened while the pid can only be this process: from here on, a signal never hits a reused pid.
        with contextlib.suppress(OSError, AttributeError):
            self.pidfd = os.pidfd_open(self.pid or 0)
        return ready

    def submit(self, job: Job, *, seconds: float) -> "Future[RenderResult]":
        """Raises BrokenProcessPool, here or in the future, if the process is dead."""
        return self._executor.submit(sandbox.run_job, self._work, job, seconds)

    def has_begun(self) -> bool:
        """Whether the worker has started its job. Call it once, when the job has ended or the worker is dead."""
        begun = False
        with contextlib.suppress(EOFError, OSError):
            while self._begun.poll():
                begun = self._begun.recv_bytes() != b""
        return begun

    def kill(self, reason: str) -> None:
        """Sends SIGKILL, which also ends a stopped process. The first reason stays. A dead process is left alone."""
        self.killed_for = self.killed_for or reason
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        elif self._context.process is not None:
            self._context.process.kill()

    def cause_of_death(self) -> str:
        """Why a dead worker died: the reason it was killed for, timeout (its CPU limit), killed (a SIGKILL from outside
        of this server), or crash."""
        if self.killed_for is not None or self._context.process is None:
            return self.killed_for or "start"
        self._context.process.join(STATUS_SECONDS)
        return DEATHS.get(self._context.process.exitcode, "crash")

    def was_killed_by_others(self) -> bool:
        """Whether a SIGKILL ended it that neither this server nor the out-of-memory killer sent; after `release`."""
        return self.killed_for == "killed"

    def release(self) -> None:
        """Releases everything but the executor's thread, which ends with the process.

        A job submitted a moment ago is not cancelled: it must break, so that its owner sees the death.
        """
        self._executor.shutdown(wait=False)
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def wait_for_end(self) -> None:
        """Blocks until process and thread have ended; call it after `kill`."""
        self._executor.shutdown(wait=True)

    def busy_seconds(self) -> float:
        """How long it has worked on its present job; 0 if it has none."""
        return time.monotonic() - self.busy_since if self.busy_since is not None else 0.0

    def rss_bytes(self) -> int:
        """Resident memory now; 0 if there is no process."""
        with contextlib.suppress(OSError, IndexError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES
        return 0


class _RecordingContext(SpawnContext):
    """The spawn context, which also records what the executor creates: the process and the pipe of its results."""

    def __init__(self) -> None:
        super().__init__()
        self.process: SpawnProcess | None = None
        self._results: SimpleQueue[Any] | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802 - the executor calls it so
        self.process = SpawnProcess(*args, **kwargs)
        return self.process

    def SimpleQueue(self) -> SimpleQueue[Any]:  # noqa: N802 - the executor calls it so
        self._results = super().SimpleQueue()
        return self._results

    def close_result_writer(self) -> None:
        """Closes the server's copy of the writing end, which it never uses. While that copy is open, a worker killed
        in the middle of a result leaves the executor's thread reading forever, because no end of file arrives."""
        if self._results is not None:
            vars(self._results)["_writer"].close()


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Children that are started inside the block begin with SIGINT and SIGTERM blocked, until they ignore both
    (`sandbox.initialize`): Ctrl-C reaches them, too, and would end their start with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, sandbox.IGNORED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _plain_main() -> Iterator[None]:
    """Replaces `__main__` by an empty module inside the block.

    Spawn imports the parent's `__main__` again in each child: the command line, and with it the web server. A worker
    needs none of that.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets environment variables for children started inside the block, and restores them afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
