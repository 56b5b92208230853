"""Files by key below one folder, spread over `ab/cd/`: names, places, weights and walks. Synchronous, for threads."""

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

from imgserver.errors import Conflict, ImgserverError, NotFound, Unavailable
from imgserver.plan.sniffing import HEAD_BYTES

T = TypeVar("T")

BLOCK_BYTES = 4096
NAME_LENGTH = 32

# A long walk over the files lets others have the interpreter: after so many files, for so long.
BATCH = 64
PAUSE_SECONDS = 0.001


def name_of(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:NAME_LENGTH]


def place(root: Path, name: str) -> Path:
    return root / name[:2] / name[2:4] / name[4:]


def weight(size: int) -> int:
    """What a file takes of the disk, folders not counted."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def walk(root: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Every file with the name that its place spells: `ab/cd/ef` is `abcdef`. What cannot be read is passed over."""
    for outer in _folders(str(root)):
        for inner in _folders(outer):
            with suppress(OSError), os.scandir(inner) as entries:
                for entry in entries:
                    yield "".join(entry.path.rsplit("/", 3)[1:]), entry


class Pace:
    """Of long walks in threads: they give way as they go, and end when they are told to, for the interpreter waits for
    its threads before it ends."""

    def __init__(self) -> None:
        self.stopped = False

    def of(self, items: Iterable[T]) -> Iterator[T]:
        for number, item in enumerate(items, start=1):
            if self.stopped:
                return
            yield item
            if number % BATCH == 0:
                time.sleep(PAUSE_SECONDS)


def create(path: Path) -> BinaryIO:
    """A new file and the folders it needs; unbuffered."""
    try:
        return path.open("xb", buffering=0)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.open("xb", buffering=0)


def write_all(file: IO[bytes], data: bytes) -> None:
    """A disk that fills up takes a part before it refuses the rest."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def read(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a file. Neither waits nor follows: somebody may have put a pipe or a link there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        return os.read(descriptor, min(os.fstat(descriptor).st_size, limit))
    finally:
        os.close(descriptor)


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if len(entry.name) == 2 and entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


# Files written whole or not at all.

MODE = 0o644

# The name is at fault, not the disk.
_NO_NAME = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
_numbers = count()


def file(path: Path, body: bytes, *, replace: bool) -> None:
    """Into a folder that is made if it is not there. Conflict: such a file is there, and is not to be replaced;
    NotFound: nothing can have this name; Unavailable: the disk does not take it. A file in the place of one of its
    folders is none of ours to judge, and counts as no such name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotFound() if isinstance(error, FileExistsError) else _translated(error) from error
    temporary = path.with_name(f".{os.getpid()}-{next(_numbers)}.coming")
    try:
        _write(temporary, body)
        if replace:
            temporary.replace(path)
        else:  # a link never takes another's place
            os.link(temporary, path)
    except OSError as error:
        raise _translated(error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _write(path: Path, body: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    with open(descriptor, "wb", buffering=0) as written:  # noqa: PTH123
        write_all(written, body)
        os.fsync(descriptor)


def _translated(error: OSError) -> ImgserverError:
    if isinstance(error, FileExistsError):
        return Conflict()
    if error.errno in _NO_NAME:
        return NotFound()
    return Unavailable("The disk does not take the file", reason="disk", retry_after=5)


# Opened files, and how a worker reads one: on Linux by way of /proc, so that it is the very file that was checked,
# whatever has become of its name since.

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


# Files that commands write: whole or not at all.


def replace_file(file: Path, body: bytes) -> None:
    """Whoever reads it meanwhile sees the old file or the new one, which keeps the old one's permissions."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(body)
        if file.exists():
            shutil.copymode(file, part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
