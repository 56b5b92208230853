"""What a worker process does to itself before its first task, and around each. Runs in the worker; free of pyvips.

The engine is named by text and imported here on demand, so that the server can import this module (it sends these
functions by name) without ever loading libvips.
"""

import contextlib
import ctypes
import importlib
import math
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from imgserver.engine.job import MIB, Codecs, Job, RenderResult
from imgserver.errors import ImageOverLimit, ImgserverError, ServerFault

ENGINE = "imgserver.engine.render"
OPTIMIZER = "imgserver.engine.optimize"
AIRLOCK = "imgserver.engine.vips"

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38

OPEN_FILES = 128
FILE_BYTES = 256 * MIB
OOM_SCORE = 800
OOM_SCORE_MAX = 1000

Work = Callable[[Job], RenderResult]


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """`parent_pid`: who must be our parent, or we are an orphan already. `memory_bytes`: of address space."""

    parent_pid: int
    memory_bytes: int
    nice: int


@dataclass(frozen=True, slots=True)
class Warmth:
    """A worker's first answer."""

    pid: int
    codecs: Codecs


_begun: "Connection[bytes, bytes] | None" = None


def settle(settings: ChildSettings, begun: "Connection[bytes, bytes]") -> None:
    """The initializer: everything that must hold before bytes of strangers are touched.

    `begun` hears of each task when it begins: a worker that was dying already is not held against its task.
    """
    global _begun
    _begun = begun
    _die_with(settings.parent_pid)
    # Both come to the whole process group or cgroup when the server is told to end: it drains, and it ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _silence()
    _set_limits(settings.memory_bytes)
    _volunteer_for_the_oom_killer()


def open_engine(*, svg: bool = False) -> Codecs:
    """Loads libvips and closes it to all but the allowed formats; the slow part of a start."""
    importlib.import_module(ENGINE)
    return cast(Codecs, importlib.import_module(AIRLOCK).open_engine(svg=svg))


def render(job: Job) -> RenderResult:
    """The engine's render, found in the worker."""
    if job.goal == "optimize":
        return cast(RenderResult, importlib.import_module(OPTIMIZER).optimize(job))
    return cast(RenderResult, importlib.import_module(ENGINE).render(job))


def warm_up(opener: Callable[[], Codecs], nice: int) -> Warmth:
    """Opens the engine at the server's own priority, for a gap in the pool is short only if it is closed at once; then
    steps back. No setsid: with kernel autogrouping, a session of its own would make the nice value meaningless."""
    codecs = opener()
    os.nice(nice)
    return Warmth(pid=os.getpid(), codecs=codecs)


def work_off(work: Work, job: Job, seconds: float) -> RenderResult:
    """One task with its CPU bound. Raises nothing but our own errors: a foreign one might not survive pickling."""
    _bound_cpu(seconds)
    if _begun is not None:
        _begun.send_bytes(b"b")
    try:
        return work(job)
    except ImgserverError:
        raise
    except MemoryError as error:
        raise ImageOverLimit("There is not enough memory for this picture") from error
    except Exception as error:
        raise ServerFault("The picture could not be made") from error


def _die_with(parent_pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_PDEATHSIG, int(signal.SIGKILL)), (PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option} was refused")
    # The parent may have died before the signal was asked for.
    if os.getppid() != parent_pid:
        os._exit(1)


def _silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


def _set_limits(memory_bytes: int) -> None:
    for limit, wanted in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        value = _within_hard(limit, wanted)
        resource.setrlimit(limit, (value, value))


def _within_hard(limit: int, wanted: int) -> int:
    """The wish, or what the limits we were started with leave of it: asking for more is refused."""
    _, hard = resource.getrlimit(limit)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _bound_cpu(seconds: float) -> None:
    """A backstop for a server that cannot kill: twice the time left, since codecs may run a second thread."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = usage.ru_utime + usage.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = _within_hard(resource.RLIMIT_CPU, math.ceil(spent + 2 * seconds) + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _volunteer_for_the_oom_killer() -> None:
    """When memory runs out a worker shall go, never the server. A wish: some sandboxes have no such file."""
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError):
        path.write_text(str(min(int(path.read_text()) + OOM_SCORE, OOM_SCORE_MAX)))
