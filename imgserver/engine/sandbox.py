"""The sandbox of a worker process: limits that it sets on itself before its first job, and around each job.

These functions run in the worker. The server imports this module too, because it sends the functions by name, so the
engine is imported on demand: the server must never load libvips.
"""

import contextlib
import ctypes
import importlib
import math
import os
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from imgserver.engine.job import Codecs, Job, RenderResult
from imgserver.errors import ImageOverLimit, ImgserverError, ServerFault
from imgserver.runtime.resources import MIB

ENGINE = "imgserver.engine.render"
OPTIMIZER = "imgserver.engine.optimize"
VIPS = "imgserver.engine.vips"

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38

# A worker ends by SIGKILL, or with its server.
IGNORED_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
OPEN_FILES = 128
FILE_BYTES = 256 * MIB
OOM_SCORE = 800
OOM_SCORE_MAX = 1000

RunJob = Callable[[Job], RenderResult]


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """`parent_pid`: the server, which must be the parent of the worker. `memory_bytes`: limit of the address space.
    `nice`: how much lower than the server's the worker's CPU priority is."""

    parent_pid: int
    memory_bytes: int
    nice: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The first message of a worker: it is ready."""

    pid: int
    codecs: Codecs


_begun: "Connection[bytes, bytes] | None" = None


def initialize(settings: SandboxSettings, begun: "Connection[bytes, bytes]") -> None:
    """The initializer of the worker: everything that must hold before it reads an untrusted file.

    The worker sends a byte through `begun` when it begins a job, so that a worker that died before is not blamed on the
    job.
    """
    global _begun
    _begun = begun
    _die_with(settings.parent_pid)
    # A stopping server drains, then ends its workers. Both signals also reach the workers directly, through the process
    # group or the cgroup. They have been blocked since the start of the process.
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
    _close_streams()
    _set_limits(settings.memory_bytes)
    _prefer_for_oom_kill()


def open_engine(*, svg: bool = False, plugins: tuple[str, ...] = ()) -> Codecs:
    """Loads libvips and limits it to the allowed formats: the slow part of a start. Raises ServerFault.

    `plugins` are the modules that add encoders to the registry.
    """
    importlib.import_module(ENGINE)
    for name in plugins:
        importlib.import_module(name)
    return cast(Codecs, importlib.import_module(VIPS).open_engine(svg=svg))


def render(job: Job) -> RenderResult:
    """Runs the job in the engine. Raises what `engine.render.render` raises."""
    if job.goal == "optimize":
        return cast(RenderResult, importlib.import_module(OPTIMIZER).optimize(job))
    return cast(RenderResult, importlib.import_module(ENGINE).render(job))


def start_engine(opener: Callable[[], Codecs], nice: int) -> WorkerReady:
    """Opens the engine at the server's CPU priority, so that a replacement is ready soon, and then lowers the priority.

    No setsid: with kernel autogrouping, a session for each worker would make the nice value meaningless.
    """
    codecs = opener()
    os.nice(nice)
    return WorkerReady(pid=os.getpid(), codecs=codecs)


def run_job(render_job: RunJob, job: Job, seconds: float) -> RenderResult:
    """Runs one job with a limit on its CPU time, derived from the `seconds` to its deadline.

    Raises errors of `errors.py` only: others may not survive pickling.
    """
    _limit_cpu(seconds)
    if _begun is not None:
        _begun.send_bytes(b"b")
    try:
        return render_job(job)
    except ImgserverError as error:
        _clear_frames(error)
        raise
    except MemoryError as error:
        _clear_frames(error)
        raise ImageOverLimit("There is not enough memory for this image") from error
    except Exception as error:
        _clear_frames(error)
        raise ServerFault("The image could not be rendered") from error


def _clear_frames(error: BaseException | None) -> None:
    """Releases what the frames of an error and of its causes hold. The executor keeps the error until the next one, and
    with it the decoded image and its temporary file."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _die_with(parent_pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_PDEATHSIG, int(signal.SIGKILL)), (PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option} was refused")
    # The parent may have died before prctl was called.
    if os.getppid() != parent_pid:
        os._exit(1)


def _close_streams() -> None:
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
    """`wanted`, or the hard limit of this process if that is lower: setrlimit refuses more."""
    _, hard = resource.getrlimit(limit)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _limit_cpu(seconds: float) -> None:
    """Ends the worker if the server fails to: after twice the remaining time, because codecs may run a second
    thread."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = usage.ru_utime + usage.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = _within_hard(resource.RLIMIT_CPU, math.ceil(spent + 2 * seconds) + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _prefer_for_oom_kill() -> None:
    """When memory runs out, the kernel shall kill a worker, never the server. Some sandboxes do not have this file."""
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError):
        path.write_text(str(min(int(path.read_text()) + OOM_SCORE, OOM_SCORE_MAX)))
