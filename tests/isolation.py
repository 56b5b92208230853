"""Tests that measure time or use the whole machine run alone, although pytest-xdist runs several processes.

Each test holds a shared lock on one file; a test marked `alone` holds it exclusively. flock(2) lets shared holders
overtake an exclusive waiter, so everyone passes through a second lock first, in turn.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def holding(folder: Path, *, alone: bool) -> Iterator[None]:
    """`folder` is the same for all processes of one run."""
    with _locked(folder / "running", fcntl.LOCK_EX if alone else fcntl.LOCK_SH, turn=folder / "turn"):
        yield


@contextmanager
def _locked(file: Path, kind: int, *, turn: Path) -> Iterator[None]:
    descriptor, waiting = (os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC) for path in (file, turn))
    try:
        fcntl.flock(waiting, fcntl.LOCK_EX)
        fcntl.flock(descriptor, kind)
        os.close(waiting)
        yield
    finally:
        os.close(descriptor)
