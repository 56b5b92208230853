"""Files by key below one folder, spread over `ab/cd/`: names, places, weights and walks. Synchronous, for threads."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, TypeVar

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


def write_all(file: BinaryIO, data: bytes) -> None:
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
