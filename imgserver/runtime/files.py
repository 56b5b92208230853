"""Opening, reading and writing files safely. Synchronous, for threads; nothing here but `store_file` translates errors.

A file is written under a temporary name in the folder of its final name, and renamed when it is complete: a reader sees
the old file or the new one, never a part.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO, BinaryIO

from imgserver.errors import Conflict, ImgserverError, NotFound, Unavailable
from imgserver.plan.sniffing import HEAD_BYTES

# The end of every temporary name. The name begins with a dot, so that no listing shows the file.
TEMPORARY_SUFFIX = ".tmp"
# Permissions of new files, less what the umask takes away.
FILE_MODE = 0o644

# O_NONBLOCK: opening a FIFO does not wait for a writer. O_NOFOLLOW: the caller has resolved the path, so a symlink at
# its end was put there afterwards.
OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

LINUX_FDS = Path("/proc/self/fd")
READ_BYTES = 1 << 20

# The name cannot be used; the disk is not at fault.
_BAD_NAME = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
_numbers = count()


def open_regular(path: Path) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file, and its status. Raises OSError; FileNotFoundError for what is not a regular
    file."""
    try:
        descriptor = os.open(path, OPEN_FLAGS)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return descriptor, status
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path, limit: int) -> bytes:
    """The first `limit` bytes of a file. Raises OSError. Neither waits for a pipe nor follows a symlink that somebody
    may have put there."""
    descriptor = os.open(path, OPEN_FLAGS)
    try:
        return os.read(descriptor, min(os.fstat(descriptor).st_size, limit))
    finally:
        os.close(descriptor)


def read_head(descriptor: int) -> bytes:
    """The first HEAD_BYTES, which are enough to sniff the format."""
    return os.pread(descriptor, HEAD_BYTES, 0)


def check_readable(descriptor: int, size_bytes: int) -> None:
    """Reads a file to its end. Raises OSError if that fails, or if the file ends before `size_bytes`: a decoder that
    could not read all bytes takes the image for a broken one."""
    offset = 0
    while chunk := os.pread(descriptor, READ_BYTES, offset):
        offset += len(chunk)
    if offset < size_bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def worker_path(descriptor: int, path: Path) -> str:
    """The path by which a worker opens the file, valid while this process keeps `descriptor` open. On Linux it leads
    through /proc to the very file that was opened and checked, whatever has happened to its name since."""
    return f"/proc/{os.getpid()}/fd/{descriptor}" if LINUX_FDS.exists() else str(path)


def write_all(file: IO[bytes], data: bytes) -> None:
    """Writes in as many steps as it takes: a disk that fills up accepts a part before it refuses the rest."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def create_file(path: Path) -> BinaryIO:
    """A new file, unbuffered, in a folder that is created if it is missing. Raises OSError; FileExistsError if there
    is such a file."""
    try:
        return path.open("xb", buffering=0)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.open("xb", buffering=0)


def write_new_file(path: Path, data: bytes, *, write: Callable[[BinaryIO, bytes], None] | None = None) -> None:
    """A new complete file, as `create_file`; on failure there is none. `write` is `write_all` by default."""
    file = create_file(path)
    try:
        with file:
            (write or write_all)(file, data)
    except BaseException:
        unlink(path)
        raise


def temporary_path(path: Path) -> Path:
    """A name in the same folder that no other thread or process uses."""
    return path.with_name(f".{os.getpid()}-{next(_numbers)}{TEMPORARY_SUFFIX}")


def write_atomically(path: Path, data: bytes, *, overwrite: bool = True, sync: bool = False) -> None:
    """Writes a complete file or none. A file that is overwritten passes its permissions on. Raises OSError;
    FileExistsError if there is such a file and `overwrite` is False.

    `sync`: the bytes are on the disk before the file gets its name, so that a power cut leaves no torn file.
    """
    temporary = temporary_path(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, FILE_MODE), "wb", buffering=0) as file:  # noqa: PTH123
            write_all(file, data)
            if overwrite:
                _copy_permissions(path, file.fileno())
            if sync:
                os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:  # a link never takes the place of another file
            os.link(temporary, path)
    finally:
        unlink(temporary)


def store_file(path: Path, body: bytes, *, replace: bool) -> None:
    """Writes a file atomically and synced into a folder that is created if it is missing. Raises Conflict: there is
    such a file and `replace` is False; NotFound: no file can have this name; Unavailable: the disk refuses it.

    A file in the place of one of its folders counts as a name that no file can have.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotFound() if isinstance(error, FileExistsError) else _translated(error) from error
    try:
        write_atomically(path, body, overwrite=replace, sync=True)
    except OSError as error:
        raise _translated(error) from error


def unlink(path: Path) -> None:
    """Removes a file if there is one and the system allows it."""
    with suppress(OSError):
        path.unlink()


def _copy_permissions(path: Path, descriptor: int) -> None:
    with suppress(FileNotFoundError):
        os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))


def _translated(error: OSError) -> ImgserverError:
    if isinstance(error, FileExistsError):
        return Conflict()
    if error.errno in _BAD_NAME:
        return NotFound()
    return Unavailable("The disk does not take the file", reason="disk", retry_after=5)
