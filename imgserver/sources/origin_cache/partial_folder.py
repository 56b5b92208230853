"""The folder of one server's partial downloads. Synchronous, for threads.

Each server has a folder of its own below `partial-downloads/` and holds it locked, so that another server with the same
origin cache does not delete it. The lock ends with the process.
"""

import fcntl
import os
import secrets
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

# Longer than the two letters of the folders that the scan reads.
PARTIAL_DOWNLOADS = "partial-downloads"


class PartialFolder:
    def __init__(self, root: Path) -> None:
        """`root` is the folder of the origin cache: a file can be renamed from one to the other."""
        self._parent = root / PARTIAL_DOWNLOADS
        self._folder = self._parent / secrets.token_hex(8)
        self._lock: int | None = None
        self._numbers = count()

    def start(self) -> None:
        """Creates the folder, and deletes those of servers that have ended. Raises OSError if it cannot be created."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock_folder(self._folder)
        for folder in self._parent.iterdir():
            if folder != self._folder:
                _remove_unless_locked(folder)

    def stop(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def new_path(self) -> Path:
        """A path that no other call returns."""
        return self._folder / str(next(self._numbers))


def _lock_folder(folder: Path) -> int | None:
    """A descriptor that holds the folder locked; None if another server holds it. On a file system without locks, the
    descriptor holds nothing."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        return descriptor
    return descriptor


def _remove_unless_locked(folder: Path) -> None:
    with suppress(OSError):
        descriptor = _lock_folder(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
