"""Opened files, and how a worker reads one: on Linux by way of /proc, so that it is the very file that was checked,
whatever has become of its name since."""

import os
import stat
from pathlib import Path

from imgserver.plan.sniffing import HEAD_BYTES

# O_NONBLOCK: opening a FIFO must not wait for its writer. O_NOFOLLOW: who opens has resolved the path already, so a
# symlink at its end has just been put there.
FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

LINUX_FDS = Path("/proc/self/fd")


def open_regular(path: Path) -> tuple[int, os.stat_result]:
    """A descriptor and what it is of. OSError: the file cannot be opened, or is no regular one."""
    descriptor = os.open(path, FLAGS)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise FileNotFoundError(path)
        return descriptor, facts
    except BaseException:
        os.close(descriptor)
        raise


def head_of(descriptor: int) -> bytes:
    return os.pread(descriptor, HEAD_BYTES, 0)


def worker_path(descriptor: int, path: Path) -> str:
    """Where a worker finds the opened file as long as this process keeps it open."""
    return f"/proc/{os.getpid()}/fd/{descriptor}" if LINUX_FDS.exists() else str(path)
