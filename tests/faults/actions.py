"""What a worker does in these tests. The path of the job names the action, such as `die:` or `nap:5`."""

import importlib
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from imgserver.engine.job import Codecs, Job, RenderResult, Timings
from imgserver.errors import BrokenImage
from imgserver.plan.plan import Dims, Plan

MEGABYTE = 1_000_000


def job(action: str, argument: object = "") -> Job:
    return Job(path=f"{action}:{argument}", plan=Plan())


def perform(job: Job) -> RenderResult:
    action, _, argument = job.path.partition(":")
    return result_of(ACTIONS[action](argument))


def perform_raw(job: Job) -> RenderResult:
    """As `perform`, but returns the value of the action unchanged."""
    action, _, argument = job.path.partition(":")
    return cast(RenderResult, ACTIONS[action](argument))


def result_of(body: object) -> RenderResult:
    return RenderResult(
        body=body if isinstance(body, bytes) else str(body).encode(),
        media_type="text/plain",
        etag="0" * 32,
        size=Dims(1, 1),
        source_format="none",
        source_size=Dims(1, 1),
        source_bytes=0,
        timings=Timings(),
    )


def opener() -> Codecs:
    return Codecs(version="8.18.7", read=("jpg",), write=("jpg", "webp"))


def broken_opener() -> Codecs:
    raise OSError("libvips.so.42: cannot open shared object file")


def dying_opener() -> Codecs:
    os._exit(1)


def opener_when(mark: str) -> Codecs:
    return opener() if Path(mark).exists() else broken_opener()


def vips_opener() -> Codecs:
    """Loads the real library, as the engine does."""
    return Codecs(version=importlib.import_module("pyvips").__version__)


def _die(_: str) -> None:
    """Dies by SIGSEGV, as a decoder with a bug does; SIGKILL would look like an external kill."""
    os.kill(os.getpid(), signal.SIGSEGV)


def _die_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        _die("")
    return "second"


def _stop(_: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _loop(_: str) -> None:
    while True:
        pass


def _nap(seconds: str) -> str:
    """Waits without using the CPU. `seconds,path`: writes the file `path` when it begins."""
    seconds, _, mark = seconds.partition(",")
    if mark:
        Path(mark).write_text(str(os.getpid()))
    threading.Event().wait(float(seconds))
    return "rested"


def _hog(_: str) -> str:
    hoard = [bytearray(64 * MEGABYTE) for _ in range(100)]
    return str(len(hoard))


def _grow(megabytes: str) -> str:
    GROWN.append(b"x" * (int(megabytes) * MEGABYTE))
    return "grown"


GROWN: list[bytes] = []


def _die_while_answering(_: str) -> None:
    """Dies after it has written a part of a large result into the pipe of the executor."""
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        assert frame.f_back is not None
        frame = frame.f_back
    pipe = frame.f_locals["result_queue"]._writer
    os.write(pipe.fileno(), struct.pack("!i", 10 * MEGABYTE) + b"partial")
    _die("")


class Unreadable:
    def __reduce__(self) -> tuple[object, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise TypeError("cannot be read here")


def _answer_unreadably(_: str) -> object:
    return Unreadable()


def _raise_ours(_: str) -> None:
    raise BrokenImage("The source ends too early", at=17)


class Foreign(Exception):
    """Does not survive pickling: two arguments."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one)


def _raise_foreign(_: str) -> None:
    raise Foreign("secret/path", "text")


def _large(megabytes: str) -> bytes:
    return bytes(int(megabytes) * MEGABYTE)


def _inspect(expression: str) -> str:
    """Reports a fact about the worker process."""
    return str(FACTS[expression]())


def _limits() -> dict[str, tuple[int, int]]:
    import resource

    names = ("RLIMIT_AS", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_CPU")
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


FACTS: dict[str, Callable[[], object]] = {
    "pid": os.getpid,
    "nice": lambda: os.getpriority(os.PRIO_PROCESS, 0),
    "session": lambda: os.getsid(0),
    "limits": _limits,
    "environment": lambda: {name: os.environ.get(name) for name in ("VIPS_CONCURRENCY", "MALLOC_ARENA_MAX", "TMPDIR")},
    "status": lambda: Path("/proc/self/status").read_text(),
    "oom": lambda: Path("/proc/self/oom_score_adj").read_text().strip(),
    "streams": lambda: {str(Path(f"/proc/self/fd/{stream}").readlink()) for stream in (0, 1, 2)},
    "modules": lambda: sorted(sys.modules),
    "main": lambda: getattr(sys.modules["__main__"], "__file__", None),
}

ACTIONS: dict[str, Callable[[str], object]] = {
    "fine": lambda argument: argument,
    "die": _die,
    "die_once": _die_once,
    "stop": _stop,
    "loop": _loop,
    "nap": _nap,
    "hog": _hog,
    "grow": _grow,
    "die_while_answering": _die_while_answering,
    "answer_unreadably": _answer_unreadably,
    "raise_ours": _raise_ours,
    "raise_foreign": _raise_foreign,
    "large": _large,
    "inspect": _inspect,
    "time": lambda _: time.monotonic(),
}
