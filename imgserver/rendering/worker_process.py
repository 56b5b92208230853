"""One worker process, seen from the server: born, warmed, given one task at a time, killed, buried.

It is the only process of its own executor, so that its death breaks nobody else. Spawned, never forked: the server
has threads, and forking those hangs. A forkserver has a worker ready in 16 ms instead of 52 (median, pyvips imported),
but it would be the workers' parent: their death with the server would hang on a second death signal, their exit
status and environment on a third process. Both are far below the half second in which a pool must be whole.
"""

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from enum import Enum
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from annotated_types import Ge, Interval, doc

from imgserver.engine import sandbox
from imgserver.engine.job import MIB, Codecs, Job, RenderResult
from imgserver.engine.sandbox import ChildSettings, Warmth

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# How long to wait for the exit status of a process whose pipes are closed already.
STATUS_SECONDS = 0.05

# In the environment a worker starts with: both are read before any code of ours runs.
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
    """`kind`: started, lost (reason as in `restarts`), start_failed (detail says why), quarantined (detail: key).

    `seconds`: how long a start took, how long the lost one lived, or the wait until the next attempt.
    """

    kind: str
    number: int = 0
    pid: int | None = None
    reason: str = ""
    seconds: float = 0.0
    detail: str = ""


class State(Enum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"


class WorkerProcess:
    """`number` is its place among the workers, reused after its death. Use from the thread of the event loop only:
    the kernel ties the death signal of a child to the thread that made it, not to the process."""

    def __init__(
        self, number: int, *, settings: ChildSettings, opener: Callable[[], Codecs], work: sandbox.Work
    ) -> None:
        self.number = number
        self.state = State.STARTING
        self.renders = 0
        self.killed_for: str | None = None
        self.born = time.monotonic()
        self.busy_since: float | None = None
        self.pidfd: int | None = None
        self.tmpdir = tempfile.mkdtemp(prefix="imgserver-worker-")
        self._opener = opener
        self._nice = settings.nice
        self._work = work
        self._context = _Context()
        self._begun, self._begun_writer = self._context.Pipe(duplex=False)
        initargs = (settings, self._begun_writer)
        self._executor = ProcessPoolExecutor(1, self._context, initializer=sandbox.settle, initargs=initargs)

    def __repr__(self) -> str:
        return f"<Worker {self.number} pid {self.pid} {self.state.value}, {self.renders} renders>"

    @property
    def pid(self) -> int | None:
        return self._context.process.pid if self._context.process else None

    def start(self) -> "Future[Warmth]":
        """Spawns the process; blocks for some milliseconds. Raises OSError when there can be no process."""
        with _plain_main(), _environment({**ENVIRONMENT, "TMPDIR": self.tmpdir}):
            warmth = self._executor.submit(sandbox.warm_up, self._opener, self._nice)
        self._context.close_result_writer()
        self._begun_writer.close()
        # Opened while the process can only be ours: from here on a reused pid is never hit.
        with contextlib.suppress(OSError, AttributeError):
            self.pidfd = os.pidfd_open(self.pid or 0)
        return warmth

    def submit(self, job: Job, *, seconds: float) -> "Future[RenderResult]":
        """Raises BrokenProcessPool (at once, or in the future) when the process is dead."""
        return self._executor.submit(sandbox.work_off, self._work, job, seconds)

    def has_begun(self) -> bool:
        """Whether it laid hands on its present task. Ask once, when the task has ended; also after its death."""
        begun = False
        with contextlib.suppress(EOFError, OSError):
            while self._begun.poll():
                begun = self._begun.recv_bytes() != b""
        return begun

    def kill(self, reason: str) -> None:
        """SIGKILL, which a stopped process obeys as well. The first reason stands. Does nothing to the dead."""
        self.killed_for = self.killed_for or reason
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        elif self._context.process is not None:
            self._context.process.kill()

    def cause_of_death(self) -> str:
        """Why it died: what we killed it for, timeout (its CPU limit), or crash. For the dead."""
        if self.killed_for is not None or self._context.process is None:
            return self.killed_for or "start"
        self._context.process.join(STATUS_SECONDS)
        return "timeout" if self._context.process.exitcode == -signal.SIGXCPU else "crash"

    def was_killed_by_others(self) -> bool:
        """By a SIGKILL that neither we nor the kernel, for want of memory, sent. For the dead, once they are buried."""
        process = self._context.process
        return self.killed_for == "crash" and process is not None and process.exitcode == -signal.SIGKILL

    def bury(self) -> None:
        """Lets go of everything but the executor's thread, which ends by itself with the process.

        A task handed in a moment ago is not cancelled: it has to break, or its owner could not tell the death.
        """
        self._executor.shutdown(wait=False)
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def wait_for_end(self) -> None:
        """Blocks until process and thread are gone; after `kill`."""
        self._executor.shutdown(wait=True)

    def busy_seconds(self) -> float:
        """How long it has been at its present task; 0 when it has none."""
        return time.monotonic() - self.busy_since if self.busy_since is not None else 0.0

    def rss_bytes(self) -> int:
        """Resident memory now; 0 when there is no process."""
        with contextlib.suppress(OSError, IndexError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES
        return 0


class _Context(SpawnContext):
    """Spawn, remembering what the executor builds: the process, known from its birth, and the pipe of its results."""

    def __init__(self) -> None:
        super().__init__()
        self.process: SpawnProcess | None = None
        self._results: SimpleQueue[Any] | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802 - the executor's name for it
        self.process = SpawnProcess(*args, **kwargs)
        return self.process

    def SimpleQueue(self) -> SimpleQueue[Any]:  # noqa: N802 - the executor's name for it
        self._results = super().SimpleQueue()
        return self._results

    def close_result_writer(self) -> None:
        """The server never writes results, and while it holds the writing end, a worker killed in the middle of a
        result leaves the executor's thread reading for ever instead of finding the end of the file."""
        if self._results is not None:
            vars(self._results)["_writer"].close()


@contextlib.contextmanager
def _plain_main() -> Iterator[None]:
    """Spawn imports the parent's `__main__` again in each child: the command line, and the web server behind it.

    A worker needs none of that, so the child is told of an empty one.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """What a child started inside the block inherits; the server's own environment is as before afterwards."""
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
